//! `rtsp://`: a network camera, `rtsp://user:password@camera:554/stream?channel=1#transport=udp`.
//!
//! H.264 or JPEG over RTP. The thread of the source speaks the protocol and decodes every picture; the loop takes the
//! newest. A camera that is absent, goes, or falls silent is lost, and tried again with everything new.
//!
//! May not know: bitstreams, which are the decoders'.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use retina::client::{
    Credentials, Demuxed, Described, PlayOptions, Session, SessionGroup, SessionOptions, SetupOptions,
    TcpTransportOptions, Transport, UdpTransportOptions, UnknownRtcpSsrcPolicy,
};
use retina::codec::{CodecItem, FrameFormat, VideoFrame};
use smol::future;
use smol::stream::StreamExt;
use tokio::time::{timeout, timeout_at};

use super::Error;
use super::address::Address;
use super::codec::{self, Order, VideoDecoder};
use super::live::{CONNECT_TIME_MAX, Feed, GOODBYE_TIME_MAX, LiveStream, Peer, SILENCE_MAX};
use crate::frame::{Limits, Orientation, decode_into};

/// How long a camera may send what shows no picture: those that save bits put some ten seconds between key frames.
const BLIND_TIME_MAX: Duration = Duration::from_secs(20);

/// A camera that speaks RTSP.
#[derive(Debug)]
struct RtspCamera {
    address: Address,
    transport: Transport,
    orientation: Orientation,
}

/// Opens a URL with the option `#transport=tcp|udp`: TCP, which is the default, loses nothing; UDP is for cameras that
/// cannot. A camera that is not there is no error.
///
/// # Errors
/// The URL or an option is wrong.
pub fn open(uri: &str, orientation: Orientation) -> Result<LiveStream, Error> {
    let address = Address::parse(uri)?;
    let fail = |why: &str| Error::Open { uri: address.shown.clone(), why: why.into() };
    if address.url.scheme() != "rtsp" {
        return Err(fail("RTSP over TLS is not spoken here; expected rtsp://"));
    }
    let mut transport = Transport::Tcp(TcpTransportOptions::default());
    for (option, value) in address.options() {
        match (option, value) {
            ("transport", "tcp") => transport = Transport::Tcp(TcpTransportOptions::default()),
            ("transport", "udp") => transport = Transport::Udp(UdpTransportOptions::default()),
            ("transport", _) => return Err(address.wrong_option("transport", value, "tcp or udp")),
            _ => {
                return Err(
                    address.unknown_option(option, "transport (after `#`; what is before it goes to the camera)")
                );
            }
        }
    }
    let shown = address.shown.clone();
    Ok(LiveStream::start(&shown, RtspCamera { address, transport, orientation }))
}

impl Peer for RtspCamera {
    fn thread_name(&self) -> &'static str {
        "rtsp-camera"
    }

    fn stream(&self, feed: &mut Feed) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return format!("no event loop for it: {error}"),
        };
        let stopped = feed.stopped();
        let group = Arc::new(SessionGroup::default());
        let stopped = async {
            stopped.await;
            "it is no longer wanted".to_owned()
        };
        let watch = async {
            match self.watch(&group, feed).await {
                Ok(never) => match never {},
                Err(why) => why,
            }
        };
        let why = runtime.block_on(async { future::or(stopped, watch).await });
        // A camera that does not answer the goodbye forgets the session by itself.
        let _ = runtime.block_on(async { timeout(GOODBYE_TIME_MAX, group.await_teardown()).await });
        // A name look-up that hangs is not waited for.
        runtime.shutdown_background();
        why
    }
}

impl RtspCamera {
    /// Pictures until the camera is lost, which is the error.
    async fn watch(&self, group: &Arc<SessionGroup>, feed: &mut Feed) -> Result<Infallible, String> {
        let credentials = self.address.credentials.clone();
        let options = SessionOptions::default()
            .creds(credentials.map(|given| Credentials { username: given.user, password: given.password }))
            .session_group(Arc::clone(group))
            .user_agent(concat!("firstlight/", env!("CARGO_PKG_VERSION")).into());
        let url = self.address.url.clone();
        let session = self.in_time("no answer", Session::describe(url, options)).await?;
        let (stream, codec) = choose(&session)?;
        let mut camera = self.in_time("no stream", self.play(session, stream)).await?;
        feed.say(&format!("{} over {}", codec.name(), self.transport));
        let mut decoder = Decoder::new(codec, self.orientation);
        let mut silent_since = Instant::now();
        let mut seen_at = Instant::now();
        loop {
            // While pictures come faster than they are decoded nothing else here would wait, and look whether to stop.
            future::yield_now().await;
            let late = |_| format!("nothing for {SILENCE_MAX:?}");
            let item = timeout_at((silent_since + SILENCE_MAX).into(), camera.next()).await.map_err(late)?;
            let item = item.ok_or("the camera ended its stream")?.map_err(|error| self.reason(&error))?;
            let CodecItem::VideoFrame(unit) = item else { continue };
            silent_since = Instant::now();
            if decoder.decode(&unit, feed, silent_since)? {
                seen_at = silent_since;
            } else if seen_at.elapsed() > BLIND_TIME_MAX {
                return Err(format!("no picture for {BLIND_TIME_MAX:?}: {}", decoder.trouble));
            }
        }
    }

    async fn play(&self, mut session: Session<Described>, stream: usize) -> Result<Demuxed, retina::Error> {
        let setup = SetupOptions::default().transport(self.transport.clone()).frame_format(FrameFormat::SIMPLE);
        session.setup(stream, setup).await?;
        // Some cameras report on streams that nobody asked for.
        let play = PlayOptions::default().unknown_rtcp_ssrc(UnknownRtcpSsrcPolicy::DropPackets);
        session.play(play).await?.demuxed()
    }

    /// A step of the connection, which takes its time and no more.
    async fn in_time<T>(&self, what: &str, step: impl Future<Output = Result<T, retina::Error>>) -> Result<T, String> {
        let late = |_| format!("{what} within {CONNECT_TIME_MAX:?}");
        timeout(CONNECT_TIME_MAX, step).await.map_err(late)?.map_err(|error| self.reason(&error))
    }

    /// What the library says, without the packet's place in the connection and without the camera's query.
    fn reason(&self, error: &retina::Error) -> String {
        let said = error.to_string();
        let first = said.lines().next().unwrap_or_default();
        match self.address.url.query() {
            Some(query) if !query.is_empty() => first.replace(query, "***"),
            _ => first.to_owned(),
        }
    }
}

/// How pictures are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    H264,
    Jpeg,
}

impl Codec {
    fn of(encoding_name: &str) -> Option<Self> {
        match encoding_name {
            "h264" => Some(Self::H264),
            "jpeg" => Some(Self::Jpeg),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::H264 => "H.264",
            Self::Jpeg => "JPEG",
        }
    }
}

/// The first of the camera's streams that can be decoded.
fn choose(session: &Session<Described>) -> Result<(usize, Codec), String> {
    let streams = || session.streams().iter().enumerate().filter(|(_, stream)| stream.media() == "video");
    if let Some(found) = streams().find_map(|(index, stream)| Some((index, Codec::of(stream.encoding_name())?))) {
        return Ok(found);
    }
    let offered: Vec<String> = streams().map(|(_, stream)| stream.encoding_name().to_ascii_uppercase()).collect();
    Err(match offered.as_slice() {
        [] => "the camera offers no video".into(),
        offered if offered.contains(&"H265".into()) => {
            "the camera sends H.265, for which there is no decoder here: set it to H.264".into()
        }
        offered => format!("the camera sends {}: expected H264 or JPEG", offered.join(", ")),
    })
}

/// Pictures of a camera's access units.
struct Decoder {
    /// `None`: every unit is a JPEG.
    h264: Option<VideoDecoder>,
    orientation: Orientation,
    /// Why there is no picture, if there is none.
    trouble: String,
    started: Instant,
}

impl Decoder {
    fn new(codec: Codec, orientation: Orientation) -> Self {
        let h264 = (codec == Codec::H264).then(|| VideoDecoder::new(Order::Live));
        Self { h264, orientation, trouble: "it sends no key frame".into(), started: Instant::now() }
    }

    /// Decodes a unit and hands over the pictures that it completes; returns whether there is one.
    ///
    /// # Errors
    /// There will never be a picture.
    fn decode(&mut self, unit: &VideoFrame, feed: &mut Feed, come_at: Instant) -> Result<bool, String> {
        let Some(h264) = &mut self.h264 else {
            let decoded = decode_into(unit.data(), self.orientation, Limits::default(), feed.filling());
            feed.hand_over(decoded, come_at);
            return Ok(true);
        };
        if unit.loss() > 0 {
            self.trouble = "packets are lost on the way; `#transport=tcp` loses none".into();
            h264.lost();
        }
        let stamp = come_at.duration_since(self.started).as_micros();
        match h264.decode(unit.data(), i64::try_from(stamp).unwrap_or(i64::MAX)) {
            Ok(()) => {}
            Err(error @ codec::Error::Unsupported { .. }) => return Err(error.to_string()),
            Err(error @ codec::Error::Damaged { .. }) => self.trouble = error.to_string(),
        }
        let mut seen = false;
        while let Some(picture) = h264.picture() {
            let waited = Duration::from_micros(picture.stamp.unsigned_abs());
            let decoded = picture.read(feed.filling());
            feed.hand_over(decoded, self.started + waited);
            seen = true;
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_without_secrets() {
        for (uri, word) in [
            ("rtsps://u:hunter2@cam/x", "expected rtsp://"),
            ("rtsp://u:hunter2@cam/x#transport=quic", "option transport=quic: expected tcp or udp"),
            ("rtsp://u:hunter2@cam/x?password=hunter2#speed=1", "unknown option `speed`; valid here: transport"),
            ("rtsp://u:hunter2@/x", "is no URL"),
        ] {
            let message = open(uri, Orientation::Apply).unwrap_err().to_string();
            assert!(message.contains(word) && !message.contains("hunter2"), "{message}");
        }
    }
}
