//! `http://` and `https://`: a camera that streams JPEGs (`multipart/x-mixed-replace`), or one that gives a picture for
//! each request, which is asked again and again: `http://user:password@camera/snapshot.jpg?quality=80#fps=2`.
//!
//! Which of the two it is, its answer says. The only connections are to the host that the configuration names: a
//! redirection to another is an error that says where to. May not know: how bytes become pictures.

mod client;

use std::path::Path;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{HeaderMap, header};
use smol::{LocalExecutor, Timer, future};

use self::client::{Client, Trust, within};
use super::Error;
use super::address::Address;
use super::jpeg_stream::JpegStream;
use super::live::{Feed, LiveStream, Peer, SILENCE_MAX};
use crate::frame::{Limits, Orientation, decode_into};

/// Pictures a second that a camera is asked for: what small cameras manage by requests.
const FPS_DEFAULT: f64 = 5.0;
/// A picture each minute to as many as a screen shows.
const FPS: std::ops::RangeInclusive<f64> = 1.0 / 60.0..=60.0;
const OPTIONS: &str = "fps, ca (after `#`; what is before it goes to the camera)";

/// A camera that speaks HTTP.
#[derive(Debug)]
struct HttpCamera {
    address: Address,
    trust: Trust,
    period: Duration,
    orientation: Orientation,
}

/// Opens a URL with options `#fps=N`, pictures a second of a camera that gives one a request, and `#ca=FILE`, who is
/// trusted to say that a camera is who it is, instead of the authorities of the web. A camera that is not there is no error.
///
/// # Errors
/// The URL or an option is wrong, or the file of `ca` holds no certificate.
pub fn open(uri: &str, orientation: Orientation) -> Result<LiveStream, Error> {
    let address = Address::parse(uri)?;
    let (mut fps, mut trust) = (FPS_DEFAULT, Trust::default());
    for (option, value) in address.options() {
        match option {
            "fps" => {
                let parsed = value.parse().ok().filter(|fps| FPS.contains(fps));
                fps = parsed.ok_or_else(|| address.wrong_option("fps", value, "a number, 1/60 to 60"))?;
            }
            "ca" => {
                let read = Trust::read(Path::new(value));
                trust =
                    read.map_err(|why| Error::Open { uri: address.shown.clone(), why: format!("ca={value}: {why}") })?;
            }
            _ => return Err(address.unknown_option(option, OPTIONS)),
        }
    }
    let shown = address.shown.clone();
    let camera = HttpCamera { address, trust, period: Duration::from_secs_f64(1.0 / fps), orientation };
    Ok(LiveStream::start(&shown, camera))
}

impl Peer for HttpCamera {
    fn thread_name(&self) -> &'static str {
        "http-camera"
    }

    fn stream(&self, feed: &mut Feed) -> String {
        let stopped = feed.stopped();
        let executor = LocalExecutor::new();
        let watch = async {
            let mut client = Client::new(&self.address, &self.trust, &executor);
            match self.watch(&mut client, feed).await {
                Ok(never) => match never {},
                Err(why) => why,
            }
        };
        let stopped = async {
            stopped.await;
            "it is no longer wanted".to_owned()
        };
        smol::block_on(executor.run(future::or(stopped, watch)))
    }
}

impl HttpCamera {
    /// Pictures until the camera is lost, which is the error.
    async fn watch(&self, client: &mut Client<'_>, feed: &mut Feed) -> Result<std::convert::Infallible, String> {
        let mut said = false;
        loop {
            let asked_at = Instant::now();
            let answer = client.get().await?;
            let streams = streams(answer.headers())?;
            if !std::mem::replace(&mut said, true) {
                let how = if streams {
                    "streams JPEGs".into()
                } else {
                    format!("gives a JPEG a request, one each {:?}", self.period)
                };
                feed.say(&how);
            }
            let pictures = self.read(answer.into_body(), feed).await?;
            if streams {
                return Err("the camera ended its stream".into());
            }
            if pictures == 0 {
                return Err("the answer holds no whole JPEG".into());
            }
            Timer::at(asked_at + self.period).await;
        }
    }

    /// Hands over the pictures of a body; returns how many there were.
    async fn read(&self, mut body: Incoming, feed: &mut Feed) -> Result<u64, String> {
        let limits = Limits::default();
        let mut stream = JpegStream::new(limits.bytes_max);
        let (mut pictures, mut bytes) = (0, 0);
        let mut silent_since = Instant::now();
        loop {
            let left = SILENCE_MAX.saturating_sub(silent_since.elapsed());
            let missing = || format!("no whole JPEG for {SILENCE_MAX:?}; {bytes} bytes had come");
            let Some(piece) = within(left, body.frame()).await.ok_or_else(missing)? else { return Ok(pictures) };
            let piece = piece.map_err(|error| format!("the stream broke off: {}", client::reason(&error)))?;
            let Ok(piece) = piece.into_data() else { continue };
            bytes += piece.len();
            stream.push(&piece);
            loop {
                let decoded = match stream.next() {
                    Ok(None) => break,
                    Ok(Some(jpeg)) => decode_into(jpeg, self.orientation, limits, feed.filling()),
                    Err(too_long) => Err(too_long),
                };
                silent_since = Instant::now();
                feed.hand_over(decoded, silent_since);
                pictures += 1;
            }
            // While pictures come faster than they are decoded nothing else here would wait, and look whether to stop.
            future::yield_now().await;
        }
    }
}

/// Whether an answer with these headers is a stream, or else a single picture.
fn streams(headers: &HeaderMap) -> Result<bool, String> {
    let kind = headers.get(header::CONTENT_TYPE).map_or("", |kind| kind.to_str().unwrap_or("?"));
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        essence if essence.starts_with("multipart/") => Ok(true),
        // Cameras that name no kind, or any, give one picture.
        "image/jpeg" | "image/jpg" | "application/octet-stream" | "" => Ok(false),
        _ => Err(format!("the answer is {essence}: expected multipart/x-mixed-replace or image/jpeg")),
    }
}

#[cfg(test)]
mod tests;
