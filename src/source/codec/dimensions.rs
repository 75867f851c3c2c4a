//! What a sequence parameter set asks of the decoder, and whether it may.

use rust_h264::nal::SpsInfo;

use super::Error;

/// Macroblocks of a picture, and of all pictures kept, at level 5.2 (ITU-T H.264, table A-1): 4096x2304 with five
/// references. About 120 MB at most, which a board with 1 GB can spare.
const PICTURE_MACROBLOCKS_MAX: u32 = 36_864;
const KEPT_MACROBLOCKS_MAX: u32 = 184_320;
/// Most pictures that the standard lets a decoder keep.
const KEPT_PICTURES_MAX: u32 = 16;

/// A stream's shape, from its sequence parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Interlaced: a picture may come as two fields.
    pub fields: bool,
    pub full_range: bool,
    /// Pictures that may be decoded before one that is shown earlier: what the stream declares, if it does.
    pub reorder: Option<usize>,
    /// The most that its level allows.
    pub reorder_max: usize,
}

impl Sequence {
    /// # Errors
    /// What this decoder, or a small board, cannot do.
    pub(super) fn new(info: &SpsInfo, level: u8) -> Result<Self, Error> {
        let unsupported = |found: String| Err(Error::Unsupported { found });
        let profile = profile_name(info.profile);
        if info.chroma_format != 1 || info.bit_depth_luma != 8 || info.bit_depth_chroma != 8 {
            let chroma = match info.chroma_format {
                0 => "4:0:0",
                1 => "4:2:0",
                2 => "4:2:2",
                _ => "4:4:4",
            };
            return unsupported(format!("H.264 profile {profile} ({chroma}, {} bits)", info.bit_depth_luma));
        }
        let macroblocks = (info.coded_width / 16).saturating_mul(info.coded_height / 16);
        let kept = info.reference_frames.max(1);
        if macroblocks > PICTURE_MACROBLOCKS_MAX
            || kept > KEPT_PICTURES_MAX
            || macroblocks.saturating_mul(kept) > KEPT_MACROBLOCKS_MAX
        {
            return unsupported(format!("H.264 of {}x{} pixels with {kept} references", info.width, info.height));
        }
        if macroblocks == 0 || info.width < 2 || info.height < 2 {
            return Err(super::damaged(format!("a sequence of {}x{} pixels", info.width, info.height)));
        }
        let reorder_max = (kept_macroblocks(level) / macroblocks).clamp(1, KEPT_PICTURES_MAX) as usize;
        // Baseline has no B pictures, and intra profiles nothing to wait for.
        let reorder = if info.profile == BASELINE { Some(0) } else { info.max_reorder_frames.map(|n| n as usize) };
        Ok(Self {
            fields: !info.progressive,
            full_range: info.full_range,
            reorder: reorder.map(|pictures| pictures.min(reorder_max)),
            reorder_max,
        })
    }
}

const BASELINE: u8 = 66;

fn profile_name(profile: u8) -> String {
    match profile {
        BASELINE => "Baseline".into(),
        77 => "Main".into(),
        88 => "Extended".into(),
        100 => "High".into(),
        110 => "High 10".into(),
        122 => "High 4:2:2".into(),
        244 => "High 4:4:4 Predictive".into(),
        44 => "CAVLC 4:4:4 Intra".into(),
        other => format!("number {other}"),
    }
}

/// `MaxDpbMbs` of ITU-T H.264, table A-1: macroblocks of all pictures that a level lets a decoder keep.
fn kept_macroblocks(level: u8) -> u32 {
    match level {
        ..=10 => 396,
        11 => 900,
        12..=20 => 2_376,
        21 => 4_752,
        22..=30 => 8_100,
        31 => 18_000,
        32 => 20_480,
        33..=41 => 32_768,
        42 => 34_816,
        43..=50 => 110_400,
        _ => KEPT_MACROBLOCKS_MAX,
    }
}
