//! The part of the configuration that is about pictures and video kept on a disk.

use std::path::PathBuf;

use serde::Deserialize;

/// What is recorded: each kind where it has a directory, which is its own and is made if only its last part is missing.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingConfig {
    /// Whether answers are drawn into the pictures.
    pub annotated: bool,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    pub pictures: PicturesConfig,
    pub video: VideoConfig,
    pub clips: ClipsConfig,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        // 80 shows a detection as well as 95 does, at a third of the bytes.
        Self {
            annotated: true,
            quality: 80,
            pictures: PicturesConfig::default(),
            video: VideoConfig::default(),
            clips: ClipsConfig::default(),
        }
    }
}

/// How much a directory keeps.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// MB of 10⁶ bytes, 8 to 10 million; the oldest files give way.
    pub size_mb: u64,
    /// Hours, 0.01 to 87600; absent: files do not grow too old.
    pub age_h: Option<f64>,
}

/// A gigabyte: an hour of video of a small camera, and there is room for it on any card.
const SIZE_MB: u64 = 1000;

/// One JPEG now and then.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PicturesConfig {
    /// Directory; absent: none are kept.
    pub dir: Option<PathBuf>,
    /// As [`Keep::size_mb`].
    pub size_mb: u64,
    /// As [`Keep::age_h`].
    pub age_h: Option<f64>,
    /// Seconds between two pictures of a source, 0.1 to 86400; 0: only on events.
    pub every_s: f64,
    /// Whether a frame in which a rule sees something begin is kept as well.
    pub on_event: bool,
}

impl Default for PicturesConfig {
    fn default() -> Self {
        // Ten seconds: a day of them is half a gigabyte.
        Self { dir: None, size_mb: SIZE_MB, age_h: None, every_s: 10.0, on_event: true }
    }
}

/// Video without an end.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VideoConfig {
    /// Directory; absent: none is kept.
    pub dir: Option<PathBuf>,
    /// As [`Keep::size_mb`].
    pub size_mb: u64,
    /// As [`Keep::age_h`].
    pub age_h: Option<f64>,
    /// Pictures a second, 1 to 60; of a faster source the others are left out.
    pub fps: u32,
    /// Length of a file, seconds, 1 to 3600.
    pub segment_s: u32,
}

impl Default for VideoConfig {
    fn default() -> Self {
        // Ten a second follow what moves, at a third of the work of all. A minute is quickly found and quickly sent.
        Self { dir: None, size_mb: SIZE_MB, age_h: None, fps: 10, segment_s: 60 }
    }
}

/// Clips of what rules report.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipsConfig {
    /// Directory; absent: none are kept.
    pub dir: Option<PathBuf>,
    /// As [`Keep::size_mb`].
    pub size_mb: u64,
    /// As [`Keep::age_h`].
    pub age_h: Option<f64>,
    /// Pictures a second, 1 to 60.
    pub fps: u32,
    /// Seconds before something begins, 0 to 60.
    pub before_s: u32,
    /// Seconds after the last thing that began or ended, 1 to 60.
    pub after_s: u32,
    /// Longest clip, seconds, from `before_s` + `after_s` to 3600; what lasts longer begins another.
    pub longest_s: u32,
    /// Memory for the seconds before, MB of 10⁶ bytes a source, 1 to 256; with less room they are fewer.
    pub memory_mb: usize,
}

impl Default for ClipsConfig {
    fn default() -> Self {
        // Five seconds before and after show how it came about and what became of it; 16 MB hold them at 1080p.
        Self {
            dir: None,
            size_mb: SIZE_MB,
            age_h: None,
            fps: 10,
            before_s: 5,
            after_s: 5,
            longest_s: 60,
            memory_mb: 16,
        }
    }
}

type Fault = (&'static str, String, &'static str);

impl RecordingConfig {
    /// The first value that is out of range: its key, what was found, what is expected.
    pub(super) fn fault(&self) -> Option<Fault> {
        let Self { pictures, video, clips, .. } = self;
        if !(1..=100).contains(&self.quality) {
            return Some(("recording.quality", self.quality.to_string(), "1 to 100"));
        }
        let kinds = [
            ("recording.pictures", &pictures.dir, pictures.keep()),
            ("recording.video", &video.dir, video.keep()),
            ("recording.clips", &clips.dir, clips.keep()),
        ];
        for (i, (key, dir, keep)) in kinds.iter().enumerate() {
            let shared = dir.is_some() && kinds[..i].iter().any(|(_, other, _)| other == dir);
            if shared || dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
                return Some((key, format!("dir {dir:?}"), "a directory of its own, such as /data/video"));
            }
            if !(8..=10_000_000).contains(&keep.size_mb) {
                return Some((key, format!("size_mb {}", keep.size_mb), "8 to 10000000 MB"));
            }
            if let Some(age_h) = keep.age_h.filter(|age_h| !(0.01..=87_600.0).contains(age_h)) {
                return Some((key, format!("age_h {age_h}"), "0.01 to 87600 hours"));
            }
        }
        if pictures.every_s != 0.0 && !(0.1..=86_400.0).contains(&pictures.every_s) {
            return Some(("recording.pictures.every_s", pictures.every_s.to_string(), "0, or 0.1 to 86400 seconds"));
        }
        let seconds = clips.before_s.saturating_add(clips.after_s);
        for (key, found, range, expected) in [
            ("recording.video.fps", video.fps, 1..=60, "1 to 60"),
            ("recording.video.segment_s", video.segment_s, 1..=3600, "1 to 3600 seconds"),
            ("recording.clips.fps", clips.fps, 1..=60, "1 to 60"),
            ("recording.clips.before_s", clips.before_s, 0..=60, "0 to 60 seconds"),
            ("recording.clips.after_s", clips.after_s, 1..=60, "1 to 60 seconds"),
            ("recording.clips.longest_s", clips.longest_s, seconds..=3600, "before_s + after_s, to 3600 seconds"),
        ] {
            if !range.contains(&found) {
                return Some((key, found.to_string(), expected));
            }
        }
        if !(1..=256).contains(&clips.memory_mb) {
            return Some(("recording.clips.memory_mb", clips.memory_mb.to_string(), "1 to 256"));
        }
        None
    }
}

impl PicturesConfig {
    #[must_use]
    pub fn keep(&self) -> Keep {
        Keep { size_mb: self.size_mb, age_h: self.age_h }
    }
}

impl VideoConfig {
    #[must_use]
    pub fn keep(&self) -> Keep {
        Keep { size_mb: self.size_mb, age_h: self.age_h }
    }
}

impl ClipsConfig {
    #[must_use]
    pub fn keep(&self) -> Keep {
        Keep { size_mb: self.size_mb, age_h: self.age_h }
    }
}
