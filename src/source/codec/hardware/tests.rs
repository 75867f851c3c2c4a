//! The decoder over a device that a test plays, with real streams: it decodes in software and behaves as drivers do, well
//! or badly.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::source::codec::{H264Decoder, VideoDecoder, access_units};

/// Twelve pictures, two key pictures, B pictures, 48x32; and four of 64x48.
const STREAM: &[u8] = include_bytes!("../../video/fixtures/h264.h264");
const LARGER: &[u8] = include_bytes!("../../video/fixtures/larger.h264");

/// How a device is bad.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// It does not announce the size that it begins with, and never flags the last picture of one.
    silent: bool,
    /// The access units that it calls damaged.
    damaged: &'static [u64],
    /// That is said only when it is the picture's turn.
    late: bool,
    /// It stops after so many access units: takes no other, or takes them all the same.
    hangs_after: Option<u64>,
    swallows: bool,
    /// Shows the pictures of access units in this order instead of decoding them, when it is stopped.
    order: &'static [u64],
    anonymous: bool,
}

struct Fake {
    faults: Faults,
    decoder: H264Decoder,
    decoded: VecDeque<Picture>,
    damaged: Option<u64>,
    given: u64,
    /// That the stream begins with, and of the pictures that there is room for.
    first_size: Option<[usize; 2]>,
    size: Option<[usize; 2]>,
    /// The size that it has announced last.
    announced: Option<[usize; 2]>,
    stopped: bool,
    /// So often was room made.
    set_ups: Arc<AtomicU32>,
}

impl Fake {
    fn opener(faults: Faults, set_ups: &Arc<AtomicU32>) -> Opener {
        let set_ups = Arc::clone(set_ups);
        Box::new(move |_| {
            let decoder = H264Decoder::new(Order::Exact);
            let (decoded, set_ups) = (VecDeque::new(), Arc::clone(&set_ups));
            let port = Fake {
                faults,
                decoder,
                decoded,
                damaged: None,
                given: 0,
                first_size: None,
                size: None,
                announced: None,
                stopped: false,
                set_ups,
            };
            Ok(Box::new(port))
        })
    }

    fn next_size(&self) -> Option<[usize; 2]> {
        let decoded = self.decoded.front().map(|picture| [picture.width, picture.height]);
        decoded.or(self.first_size.filter(|_| self.size.is_none()))
    }

    /// A size that there is no room for.
    fn other_size(&self) -> Option<[usize; 2]> {
        let announces = self.size.is_some() || !self.faults.silent;
        self.next_size().filter(|next| announces && self.size != Some(*next))
    }

    fn pull(&mut self) {
        self.decoded.extend(std::iter::from_fn(|| self.decoder.picture()));
    }
}

impl Port for Fake {
    fn wait(&mut self, bound: Duration) -> Result<bool, String> {
        let fits = self.size.is_some() && self.next_size() == self.size;
        let ended = self.stopped && self.decoded.is_empty();
        let may_come = fits || ended || self.damaged.is_some() || self.other_size() != self.announced;
        if !may_come {
            std::thread::sleep(bound);
        }
        Ok(may_come)
    }

    fn give(&mut self, unit: &[u8], id: u64) -> Result<bool, String> {
        self.given += 1;
        if self.faults.hangs_after.is_some_and(|after| self.given > after) {
            return Ok(self.faults.swallows);
        }
        if self.faults.damaged.contains(&id) && !self.faults.late {
            self.damaged = Some(id);
        }
        for nal in parse_annex_b(unit).iter().filter(|nal| nal.nal_unit_type == NalUnitType::Sps) {
            let info = parse_sps_info(nal).unwrap();
            self.first_size.get_or_insert([info.width as usize, info.height as usize]);
        }
        if self.faults.order.is_empty() {
            let stamp = if self.faults.anonymous { 0 } else { id.cast_signed() };
            self.decoder.decode(unit, stamp).map_err(|error| error.to_string())?;
            self.pull();
        }
        Ok(true)
    }

    fn resized(&mut self) -> Result<bool, String> {
        self.announced = self.other_size();
        Ok(self.announced.is_some())
    }

    fn set_up(&mut self) -> Result<(), String> {
        self.size = self.next_size();
        self.set_ups.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Taken>, String> {
        if let Some(id) = self.damaged.take() {
            // In both queues, as some drivers say it; and there is no such picture.
            return Ok(Some(Taken { id, damaged: true, ..Taken::default() }));
        }
        match self.decoded.pop_front() {
            Some(picture) if self.size == Some([picture.width, picture.height]) => {
                let id = picture.stamp.cast_unsigned();
                let damaged = self.faults.damaged.contains(&id);
                Ok(Some(Taken { id, picture: (!damaged).then_some(picture), damaged, last: false }))
            }
            Some(picture) => {
                self.decoded.push_front(picture);
                Ok((!self.faults.silent).then(|| Taken { last: true, ..Taken::default() }))
            }
            None => Ok(self.stopped.then(|| Taken { last: true, ..Taken::default() })),
        }
    }

    fn stop(&mut self) -> Result<(), String> {
        self.decoder.flush().map_err(|error| error.to_string())?;
        self.pull();
        self.size = self.size.filter(|_| self.faults.order.is_empty()).or(Some([2, 2]));
        for &id in self.faults.order {
            let stamp = id.cast_signed();
            let [y, u, v] = [4, 1, 1].map(|length| vec![0; length]);
            self.decoded.push_back(Picture { width: 2, height: 2, y, u, v, full_range: false, stamp });
        }
        self.stopped = true;
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        self.stopped = false;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.decoder.reset();
        self.decoded.clear();
        Ok(())
    }
}

fn hardware(order: Order, faults: Faults) -> (HardwareDecoder, Arc<AtomicU32>) {
    let set_ups = Arc::new(AtomicU32::new(0));
    (HardwareDecoder::new(order, Fake::opener(faults, &set_ups)), set_ups)
}

fn device(faults: Faults) -> VideoDecoder {
    VideoDecoder::by_device(Order::Exact, Fake::opener(faults, &Arc::default()), "test".into())
}

fn by_software(units: &[&[u8]]) -> Vec<Picture> {
    let mut decoder = H264Decoder::new(Order::Exact);
    for (stamp, unit) in (0..).zip(units) {
        decoder.decode(unit, stamp).unwrap();
    }
    decoder.flush().unwrap();
    std::iter::from_fn(|| decoder.picture()).collect()
}

/// Decodes all, and returns what was shown and what was wrong.
fn decode(decoder: &mut HardwareDecoder, units: &[&[u8]]) -> (Vec<Picture>, Vec<Failure>) {
    let (mut pictures, mut failures) = (Vec::new(), Vec::new());
    for (stamp, unit) in (0..).zip(units) {
        failures.extend(decoder.decode(unit, stamp).err());
        pictures.extend(std::iter::from_fn(|| decoder.picture()));
    }
    failures.extend(decoder.flush().err());
    pictures.extend(std::iter::from_fn(|| decoder.picture()));
    (pictures, failures)
}

fn stamps(pictures: &[Picture]) -> Vec<i64> {
    pictures.iter().map(|picture| picture.stamp).collect()
}

fn sorted(mut stamps: Vec<i64>) -> Vec<i64> {
    stamps.sort_unstable();
    stamps
}

#[test]
fn pictures_and_stamps_are_those_of_the_software() {
    let units = access_units(STREAM);
    for order in [Order::Exact, Order::Live] {
        let (mut decoder, set_ups) = hardware(order, Faults::default());
        // A stream that begins after the end of one is no other.
        for _ in 0..2 {
            let (pictures, failures) = decode(&mut decoder, &units);
            assert!(failures.is_empty(), "{failures:?}");
            assert_eq!(pictures, by_software(&units));
        }
        assert_eq!(set_ups.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_new_size_in_the_middle_is_taken_over() {
    let (one, other) = (access_units(STREAM), access_units(LARGER));
    // The second comes to light only at the end of the stream.
    for units in [[&*one, &other, &one].concat(), [&one, &other[..1]].concat()] {
        for silent in [false, true] {
            let (mut decoder, set_ups) = hardware(Order::Exact, Faults { silent, ..Faults::default() });
            let (pictures, failures) = decode(&mut decoder, &units);
            assert!(failures.is_empty(), "{failures:?}");
            assert_eq!(pictures, by_software(&units));
            let sizes = pictures.chunk_by(|one, next| one.width == next.width).count();
            assert_eq!(set_ups.load(Ordering::Relaxed) as usize, sizes);
        }
    }
}

#[test]
fn parameter_sets_that_came_alone_are_given_again_where_decoding_begins() {
    let units = access_units(STREAM);
    let (slices, sets): (Vec<_>, Vec<_>) = nal::units(units[0]).partition(|unit| unit[3] & 0x1f == 5);
    let (slices, sets) = (slices.concat(), sets.concat());
    let mut alone = units.clone();
    alone[0] = &slices;
    let (mut decoder, _) = hardware(Order::Exact, Faults::default());
    for _ in 0..2 {
        decoder.decode(&sets, 77).unwrap();
        let (pictures, failures) = decode(&mut decoder, &alone);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(pictures, by_software(&units));
    }
}

#[test]
fn what_builds_on_a_damaged_picture_is_not_shown() {
    let units = access_units(STREAM);
    // I P B B P P, and the same again: the first P is the second unit, and shown after the pictures between.
    for late in [false, true] {
        let (mut decoder, _) = hardware(Order::Exact, Faults { damaged: &[2], late, ..Faults::default() });
        let (pictures, failures) = decode(&mut decoder, &units);
        assert!(matches!(failures[..], [Failure::Stream(Error::Damaged { .. })]), "{failures:?}");
        assert_eq!(sorted(stamps(&pictures)), [0, 6, 7, 8, 9, 10, 11], "late: {late}");
    }
    // The last P before a key picture that the device has already when this is heard of, and the B that is shown before it.
    let (mut decoder, _) = hardware(Order::Exact, Faults { damaged: &[5], late: true, ..Faults::default() });
    let (pictures, failures) = decode(&mut decoder, &units);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(sorted(stamps(&pictures)), [0, 1, 2, 3, 6, 7, 8, 9, 10, 11]);
    // A B picture to which none refers.
    let is_free = |unit: &&[u8]| unit.windows(4).any(|window| window == [0, 0, 1, 0x01]);
    assert_eq!(units.iter().position(is_free), Some(3));
    let (mut decoder, _) = hardware(Order::Exact, Faults { damaged: &[4], ..Faults::default() });
    let (pictures, failures) = decode(&mut decoder, &units);
    assert_eq!((pictures.len(), failures.len()), (11, 1), "{failures:?}");
}

#[test]
fn after_a_loss_nothing_comes_before_the_next_key_picture() {
    let units = access_units(STREAM);
    let (mut decoder, _) = hardware(Order::Exact, Faults::default());
    decoder.decode(units[0], 0).unwrap();
    decoder.decode(units[1], 1).unwrap();
    decoder.lost();
    let mut later = Vec::new();
    for (stamp, unit) in (2..).zip(&units[2..]) {
        decoder.decode(unit, stamp).unwrap();
        later.extend(std::iter::from_fn(|| decoder.picture()));
    }
    decoder.flush().unwrap();
    later.extend(std::iter::from_fn(|| decoder.picture()));
    assert_eq!(sorted(stamps(&later)), [0, 1, 6, 7, 8, 9, 10, 11]);
    // A jump: what was given before is forgotten.
    decoder.decode(units[0], 0).unwrap();
    decoder.reset().unwrap();
    let (pictures, _) = decode(&mut decoder, &units[3..]);
    assert_eq!(sorted(stamps(&pictures)), [3, 4, 5, 6, 7, 8]);
}

#[test]
fn where_decoding_begins_at_no_key_picture_what_leads_it_is_not_shown() {
    let units = access_units(STREAM);
    let [key, p] = [units[0], units[1]];
    let sets: Vec<u8> = nal::units(key).take_while(|unit| unit[3] & 0x1f != 5).flatten().copied().collect();
    // A recovery point at once, or after two pictures; then a picture that is shown before it.
    for (message, shown) in [(0x80, vec![0, 2]), (0x60, vec![2])] {
        let recovery = [&sets, &[0, 0, 1, 6, 6, 1, message, 0x80][..], p].concat();
        let (mut decoder, _) = hardware(Order::Exact, Faults { order: &[2, 1, 3], ..Faults::default() });
        let (pictures, failures) = decode(&mut decoder, &[&recovery, p, p]);
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(stamps(&pictures), shown);
    }
}

#[test]
fn software_goes_on_where_a_device_hangs() {
    let mut units = access_units(STREAM);
    // Parameter sets come once in many streams.
    let bare: Vec<u8> = nal::units(units[6]).filter(|unit| unit[3] & 0x1f == 5).flatten().copied().collect();
    units[6] = &bare;
    let mut decoder = device(Faults { hangs_after: Some(4), ..Faults::default() });
    let mut shown = Vec::new();
    for (stamp, unit) in (0..).zip(&units) {
        decoder.decode(unit, stamp).unwrap();
        shown.extend(std::iter::from_fn(|| decoder.picture()).map(|picture| picture.stamp));
    }
    decoder.flush().unwrap();
    shown.extend(std::iter::from_fn(|| decoder.picture()).map(|picture| picture.stamp));
    let (before, after): (Vec<i64>, Vec<i64>) = shown.into_iter().partition(|stamp| *stamp < 6);
    assert!(before.len() <= 4, "{before:?}");
    assert_eq!(sorted(after), [6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_device_that_fails_at_once_costs_no_picture() {
    let units = access_units(STREAM);
    let busy: Opener = Box::new(|_| Err("another program has it".into()));
    let decoders = [
        VideoDecoder::by_device(Order::Exact, busy, "test".into()),
        device(Faults { damaged: &[1], ..Faults::default() }),
        device(Faults { anonymous: true, ..Faults::default() }),
    ];
    for (mut decoder, expected) in decoders.into_iter().zip([12, 12, 6]) {
        for (stamp, unit) in (0..).zip(&units) {
            decoder.decode(unit, stamp).unwrap();
        }
        decoder.flush().unwrap();
        assert_eq!(std::iter::from_fn(|| decoder.picture()).count(), expected);
    }
}

#[test]
fn a_device_that_only_swallows_is_found_out() {
    let units = access_units(STREAM);
    let (mut decoder, _) = hardware(Order::Exact, Faults { hangs_after: Some(1), swallows: true, ..Faults::default() });
    let failed = (0..100).find_map(|round| decoder.decode(units[round % 6], 0).err());
    assert!(matches!(failed, Some(Failure::Device(why)) if why.contains("no picture")));
}

#[test]
fn a_device_that_makes_no_picture_of_the_stream_any_more_is_given_up() {
    let units = access_units(STREAM);
    // After the second key picture only key pictures are tried.
    let (mut decoder, _) = hardware(Order::Exact, Faults { damaged: &[7, 8, 9, 10], ..Faults::default() });
    let failures: Vec<Failure> = (0..31).filter_map(|n| decoder.decode(units[n % 12], 0).err()).collect();
    let [Failure::Stream(_), Failure::Stream(_), Failure::Stream(_), Failure::Device(_)] = &failures[..] else {
        panic!("{failures:?}")
    };
}

#[test]
fn kinds_that_are_not_decoded_are_refused_before_a_device_is_opened() {
    let opened = Arc::new(Mutex::new(false));
    let open: Opener = Box::new({
        let opened = Arc::clone(&opened);
        move |_| {
            *opened.lock().unwrap() = true;
            Err("opened".into())
        }
    });
    let mut decoder = HardwareDecoder::new(Order::Live, open);
    let sps = "676e001fa6cd940c012684000003000400000300503c60c658";
    let bytes = (0..sps.len()).step_by(2).map(|at| u8::from_str_radix(&sps[at..at + 2], 16).unwrap());
    let unit: Vec<u8> = [0, 0, 0, 1].into_iter().chain(bytes).collect();
    let failure = decoder.decode(&unit, 0).unwrap_err();
    assert!(matches!(failure, Failure::Stream(Error::Unsupported { .. })), "{failure:?}");
    // A slice of a sequence that nobody knows.
    decoder.decode(&[0, 0, 1, 0x65, 0x88, 0x80], 0).unwrap_err();
    assert!(!*opened.lock().unwrap());
}

#[test]
fn a_device_that_is_none_is_refused_with_the_reason() {
    for (path, word) in [("/dev/null", "is no video device"), ("/dev/no-decoder", "No such file")] {
        let message = choose(path).unwrap_err();
        assert!(message.starts_with(path) && message.contains(word), "{message}");
    }
}
