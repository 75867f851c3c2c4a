//! Words for a screen: cut, wrapped, short.

use std::fmt::{self, Write};

/// At most `columns` characters of a text.
pub fn cut(text: &str, columns: usize) -> &str {
    text.char_indices().nth(columns).map_or(text, |(end, _)| &text[..end])
}

/// A text in lines of at most `columns` characters, broken at spaces, and within words that are longer than a line.
pub fn wrap(text: &str, columns: usize) -> impl Iterator<Item = &str> {
    let columns = columns.max(1);
    let mut rest = text.trim();
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let line = cut(rest, columns);
        let line = if line.len() == rest.len() || rest[line.len()..].starts_with(' ') {
            line
        } else {
            line.rfind(' ').map_or(line, |space| &line[..space])
        };
        rest = rest[line.len()..].trim_start();
        Some(line.trim_end())
    })
}

/// A source without its options, and without who may open it.
pub fn plain_source(uri: &str) -> &str {
    let base = uri.split_once('?').map_or(uri, |(base, _)| base);
    match base.split_once("://") {
        Some((_, address)) => address.rsplit_once('@').map_or(base, |(_, host)| host),
        None => base,
    }
}

/// Seconds as a person says them.
pub fn uptime(seconds: f64, text: &mut String) -> fmt::Result {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an uptime; the cast saturates")]
    let minutes = (seconds / 60.0) as u64;
    match (minutes / 1440, minutes / 60, minutes) {
        (0, 0, 0) => write!(text, "{:.0} s", seconds.floor()),
        (0, 0, minutes) => write!(text, "{minutes} min"),
        (0, hours, minutes) => write!(text, "{hours} h {:02}", minutes % 60),
        (days, hours, _) => write!(text, "{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_anywhere() {
        let lines = |text, columns| wrap(text, columns).collect::<Vec<_>>();
        assert_eq!(lines("no frame for 3.2 s", 9), ["no frame", "for 3.2 s"]);
        assert_eq!(lines("no frame for 3.2 s", 8), ["no frame", "for 3.2", "s"]);
        assert_eq!(lines("/dev/video99: gone", 6), ["/dev/v", "ideo99", ":", "gone"]);
        assert_eq!(lines("  äöü  ÄÖÜ ", 3), ["äöü", "ÄÖÜ"]);
        assert_eq!(lines("", 3), [""; 0]);
        assert_eq!(lines("ab", 0), ["a", "b"]);
    }

    #[test]
    fn a_password_is_on_no_screen() {
        assert_eq!(plain_source("rtsp://me:secret@10.0.0.7/stream?transport=tcp"), "10.0.0.7/stream");
        assert_eq!(plain_source("rtsp://10.0.0.7/stream"), "rtsp://10.0.0.7/stream");
        assert_eq!(plain_source("v4l2:/dev/video0?width=640"), "v4l2:/dev/video0");
    }

    #[test]
    fn times_are_short() {
        for (seconds, said) in
            [(0.0, "0 s"), (59.9, "59 s"), (60.0, "1 min"), (3660.0, "1 h 01"), (180_000.0, "2 d 2 h")]
        {
            let mut text = String::new();
            uptime(seconds, &mut text).unwrap();
            assert_eq!(text, said);
        }
    }
}
