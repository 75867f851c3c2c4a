//! The confidence a class must reach.

/// One limit for all classes, or one each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold<'a> {
    pub uniform: f32,
    /// By class id; classes beyond its end have the uniform one.
    pub per_class: &'a [f32],
}

impl Threshold<'_> {
    /// The same for every class.
    #[must_use]
    pub fn uniform(limit: f32) -> Self {
        Self { uniform: limit, per_class: &[] }
    }

    #[must_use]
    pub fn of(&self, class_id: u32) -> f32 {
        self.per_class.get(class_id as usize).copied().unwrap_or(self.uniform)
    }
}
