//! What a model's numbers are called, and how its predictions are shown: shared by responses and drawings.

use std::sync::Arc;

use super::registry::{Contract, Family, Task};
use crate::cache::{Layout, PALETTE, Package, Rgb, Skeleton};
use crate::engine::TensorInfo;

/// The class that the classic engine takes out of RF-DETR's names (SPEC §2.6).
pub const RF_DETR_BACKGROUND: &str = "background_class83422";

/// Whether a class that the network knows is none of its answers. The classic engine takes RF-DETR's background out by
/// its name, the default engine those of RF-DETR's classes that the package names; other families have no such, nor has
/// RF-DETR's semantic segmentation.
#[must_use]
pub fn is_removed(layout: &Layout, contract: Contract, name: &str) -> bool {
    contract.family == Family::RfDetr
        && contract.task != Task::SemanticSegmentation
        && match layout {
            Layout::Classic { .. } => name == RF_DETR_BACKGROUND,
            Layout::Tflite(_) => false,
            Layout::ModelsCache(cached) => cached.config.removed_classes.iter().any(|removed| removed == name),
        }
}

/// Names and colours of a model. Class ids in predictions index `class_names`, which lacks the classes that the
/// package removes.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    pub task: Task,
    pub class_names: Vec<String>,
    pub colors: Vec<Rgb>,
    /// Key points by class of object, one entry a class.
    pub skeletons: Vec<Skeleton>,
    /// Of one image, where these are the answer; else empty.
    pub outputs: Vec<TensorInfo>,
}

impl Labels {
    /// Of a package.
    #[must_use]
    pub fn of(package: &Package, contract: Contract) -> Arc<Self> {
        let removed = |name: &str| is_removed(&package.layout, contract, name);
        let kept = || package.class_names.iter().enumerate().filter(|(_, name)| !removed(name));
        let skeleton = |(class, _)| {
            package.keypoints.iter().find(|skeleton| skeleton.class_id == class).cloned().unwrap_or_default()
        };
        Arc::new(Self {
            task: contract.task,
            class_names: kept().map(|(_, name)| name.clone()).collect(),
            colors: kept().filter_map(|(class, _)| package.colors.get(class).copied()).collect(),
            skeletons: kept().map(skeleton).collect(),
            outputs: Vec::new(),
        })
    }

    /// For a task whose classes are named so, with colours from the palette.
    #[must_use]
    pub fn new(task: Task, class_names: Vec<String>) -> Arc<Self> {
        let colors = (0..class_names.len()).map(|class| PALETTE[class % PALETTE.len()]).collect();
        Arc::new(Self { task, class_names, colors, skeletons: Vec::new(), outputs: Vec::new() })
    }

    /// The name of a class; `None` for an index without one.
    #[must_use]
    pub fn class_name(&self, class_id: u32) -> Option<&str> {
        self.class_names.get(class_id as usize).map(String::as_str)
    }

    /// The colour of a class: the package's, else the palette's.
    #[must_use]
    pub fn color(&self, class_id: u32) -> Rgb {
        let class = class_id as usize;
        self.colors.get(class).copied().unwrap_or(PALETTE[class % PALETTE.len()])
    }

    /// The key points of a class of objects.
    #[must_use]
    pub fn skeleton(&self, class_id: u32) -> Option<&Skeleton> {
        self.skeletons.get(class_id as usize)
    }
}
