//! What a model saw in one image. Everything lies in flat lists that keep their memory from frame to frame.

use std::ops::Range;

use crate::frame::Size;

/// A run of entries in one of the lists of [`Predictions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The entries from `start` to the list's present end.
    ///
    /// # Panics
    /// When the list is shorter than `start`, or has more than 2^32 entries.
    #[must_use]
    pub fn since(start: usize, end: usize) -> Self {
        let narrow = |value: usize| u32::try_from(value).expect("fewer than 2^32 points in one answer");
        Self { start: narrow(start), len: narrow(end - start) }
    }

    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// What is known of an object besides its box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Box,
    /// Of [`Predictions::points`]: the outline of its mask; few or no points for an empty mask.
    Polygon(Span),
    /// Of [`Predictions::rle`]: its mask as COCO's compressed run lengths.
    Mask(Span),
    /// Of [`Predictions::keypoints`].
    Keypoints(Span),
}

/// One detected object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// Left, top, right, bottom in pixels of the image (whole numbers, for most families), or of
    /// [`Predictions::mask_grid`] where that is set.
    pub corners: [f64; 4],
    pub confidence: f32,
    pub class_id: u32,
    pub shape: Shape,
}

impl Detection {
    /// Centre x, centre y, width, height, as responses have it.
    #[must_use]
    pub fn center_and_size(&self) -> [f64; 4] {
        let [left, top, right, bottom] = self.corners;
        [f64::midpoint(left, right), f64::midpoint(top, bottom), right - left, bottom - top]
    }
}

/// A named point of an object, in pixels of the image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keypoint {
    pub x: f64,
    pub y: f64,
    pub confidence: f32,
    /// Its number within its object's skeleton.
    pub id: u32,
}

/// The score of one class of a classifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScore {
    pub class_id: u32,
    pub score: f32,
    /// Reached the threshold. Classifiers of one label list only such; those of many list every class.
    pub predicted: bool,
}

/// A class for every pixel of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassMap {
    /// The image's; or of its left top part, where the default engine answers a static crop that begins there.
    pub size: Size,
    /// Row by row.
    pub class_ids: Vec<u8>,
    /// 0 to 255 for 0 to 1.
    pub confidence: Vec<u8>,
}

/// Everything seen in one image; which lists are used depends on the model's task.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// Of the image, after EXIF orientation and before any crop.
    pub image: Size,
    /// Objects, strongest first.
    pub detections: Vec<Detection>,
    /// Corners of all polygons, x and y.
    pub points: Vec<[f64; 2]>,
    pub keypoints: Vec<Keypoint>,
    /// Run lengths of all masks, ASCII.
    pub rle: String,
    /// The size that boxes and masks are in, where a request allowed one smaller than the image.
    pub mask_grid: Option<Size>,
    /// Of a classifier, strongest first for one label and in class order for many.
    pub classes: Vec<ClassScore>,
    pub class_map: ClassMap,
    /// Of all outputs, one after the other, where they are answered as they are.
    pub values: Vec<f32>,
}

impl Predictions {
    /// Forgets everything but the memory.
    pub fn clear(&mut self, image: Size) {
        self.image = image;
        self.detections.clear();
        self.points.clear();
        self.keypoints.clear();
        self.rle.clear();
        self.mask_grid = None;
        self.classes.clear();
        self.class_map.size = image;
        self.class_map.class_ids.clear();
        self.class_map.confidence.clear();
        self.values.clear();
    }

    /// Copies another's content, reusing this one's memory.
    pub fn copy_from(&mut self, other: &Predictions) {
        self.image = other.image;
        self.detections.clone_from(&other.detections);
        self.points.clone_from(&other.points);
        self.keypoints.clone_from(&other.keypoints);
        self.rle.clone_from(&other.rle);
        self.mask_grid = other.mask_grid;
        self.classes.clone_from(&other.classes);
        self.class_map.size = other.class_map.size;
        self.class_map.class_ids.clone_from(&other.class_map.class_ids);
        self.class_map.confidence.clone_from(&other.class_map.confidence);
        self.values.clone_from(&other.values);
    }
}

impl Default for Predictions {
    fn default() -> Self {
        Self {
            image: Size { width: 0, height: 0 },
            detections: Vec::new(),
            points: Vec::new(),
            keypoints: Vec::new(),
            rle: String::new(),
            mask_grid: None,
            classes: Vec::new(),
            class_map: ClassMap::default(),
            values: Vec::new(),
        }
    }
}
