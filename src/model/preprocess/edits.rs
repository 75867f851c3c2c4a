//! What is done to a picture before it is resized: contrast and grayscale, in the order of either engine.

use crate::frame::{Contrast, ContrastFilter, Frame, View, grey_in_place};
use crate::model::Semantics;

/// The steps, with the one picture they are done in, reused from frame to frame.
#[derive(Debug)]
pub struct Edits {
    semantics: Semantics,
    contrast: ContrastFilter,
    scratch: Frame,
}

impl Edits {
    pub fn new(semantics: Semantics) -> Self {
        Self { semantics, contrast: ContrastFilter::default(), scratch: Frame::empty() }
    }

    /// The edited picture; the given one where there is nothing to do.
    pub fn apply<'a>(&'a mut self, view: View<'a>, contrast: Option<Contrast>, grey: bool) -> View<'a> {
        if contrast.is_none() && !grey {
            return view;
        }
        view.copy_to(&mut self.scratch);
        match self.semantics {
            Semantics::Classic => {
                if let Some(contrast) = contrast {
                    self.contrast.apply(contrast, &mut self.scratch);
                }
                if grey {
                    grey_in_place(&mut self.scratch);
                }
            }
            Semantics::Default => {
                if grey {
                    grey_in_place(&mut self.scratch);
                }
                if let Some(contrast) = contrast {
                    self.contrast.apply_in_colour(contrast, &mut self.scratch);
                }
            }
        }
        self.scratch.view()
    }
}
