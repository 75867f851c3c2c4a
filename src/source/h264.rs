//! Stand-in until the shared decoder is merged.
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use crate::frame::Frame;

pub struct H264Decoder(Decoder);

impl H264Decoder {
    pub fn new() -> Result<Self, String> {
        Decoder::new().map(Self).map_err(|error| error.to_string())
    }

    pub fn decode(&mut self, unit: &[u8], frame: &mut Frame) -> Result<bool, String> {
        let Some(picture) = self.0.decode(unit).map_err(|error| error.to_string())? else { return Ok(false) };
        let (width, height) = picture.dimensions();
        frame.reshape(width, height);
        picture.write_rgb8(frame.pixels_mut());
        Ok(true)
    }
}
