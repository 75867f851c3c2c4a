use super::Frame;
pub fn boxed(_frame: &mut Frame, _corners: [f64; 4], _label: Option<&str>, _color: [u8; 3], _stroke_px: u32) {}
