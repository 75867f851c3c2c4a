//! Controls of a driver that the test makes up: set, refused, and put into words.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::*;

/// A camera with some controls, and what was set.
#[derive(Default)]
struct Fake {
    controls: BTreeMap<u32, RawControl>,
    menus: BTreeMap<u32, Vec<(u32, [u8; 32])>>,
    values: RefCell<Vec<(u32, i64)>>,
    /// Answer of every call that sets.
    refuses: Option<Errno>,
}

fn field(text: &str) -> [u8; 32] {
    let mut field = [0; 32];
    field[..text.len()].copy_from_slice(text.as_bytes());
    field
}

impl Fake {
    fn with(mut self, id: u32, kind: u32, name: &str, range: [i64; 3], flags: u32) -> Self {
        let [minimum, maximum, step] = range;
        let mut raw = RawControl::named(id, kind, name);
        (raw.minimum, raw.maximum, raw.step, raw.flags) = (minimum, maximum, step.unsigned_abs(), flags);
        self.controls.insert(id, raw);
        self
    }

    fn entries(mut self, id: u32, entries: &[(u32, &str)]) -> Self {
        self.menus.insert(id, entries.iter().map(|(index, name)| (*index, field(name))).collect());
        self
    }

    /// As a webcam: manual exposure is entry 1, automatic entry 3.
    fn webcam() -> Self {
        Self::default()
            .with(0x0098_0001, 6, "User Controls", [0, 0, 0], state::READ_ONLY)
            .with(0x0098_0900, 1, "Brightness", [-64, 64, 1], 0)
            .with(0x0098_090c, 2, "White Balance, Automatic", [0, 1, 1], 0)
            .with(0x0098_091a, 1, "White Balance Temperature", [2800, 6500, 10], 0)
            .with(0x0098_0918, 3, "Power Line Frequency", [0, 2, 1], 0)
            .entries(0x0098_0918, &[(0, "Disabled"), (1, "50 Hz"), (2, "60 Hz")])
            .with(0x009a_0901, 3, "Auto Exposure", [0, 3, 1], 0)
            .entries(0x009a_0901, &[(1, "Manual Mode"), (3, "Aperture Priority Mode")])
            .with(0x009a_0902, 1, "Exposure Time, Absolute", [3, 2047, 1], 0)
            .with(0x009a_0903, 2, "Exposure, Dynamic Framerate", [0, 1, 1], 0)
    }

    fn asked(&self, pairs: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let settings: Vec<Setting> =
            pairs.iter().map(|(option, value)| Setting::parse(option, value).unwrap().unwrap()).collect();
        apply(self, &settings).map_err(|fault| fault.to_string())
    }
}

impl Panel for Fake {
    fn next(&self, id: u32) -> nix::Result<RawControl> {
        self.controls.range(id + 1..).next().map(|(_, raw)| *raw).ok_or(Errno::EINVAL)
    }

    fn entry(&self, id: u32, index: u32) -> nix::Result<[u8; 32]> {
        let menu = self.menus.get(&id).ok_or(Errno::EINVAL)?;
        menu.iter().find(|(entry, _)| *entry == index).map(|(_, name)| *name).ok_or(Errno::EINVAL)
    }

    fn get(&self, _: &RawControl) -> nix::Result<i64> {
        Ok(7)
    }

    fn set(&self, control: &RawControl, value: i64) -> nix::Result<i64> {
        if let Some(errno) = self.refuses {
            return Err(errno);
        }
        self.values.borrow_mut().push((control.id, value));
        Ok(value)
    }
}

#[test]
fn a_number_takes_the_control_from_the_camera_and_auto_gives_it_back() {
    let camera = Fake::webcam();
    let told = camera.asked(&[("exposure", "157"), ("white_balance", "4600"), ("brightness", "-5")]).unwrap();
    let expected = [(0x009a_0901, 1), (0x009a_0902, 157), (0x0098_090c, 0), (0x0098_091a, 4600), (0x0098_0900, -5)];
    assert_eq!(*camera.values.borrow(), expected);
    assert_eq!(told[..2], ["auto_exposure 1", "exposure_time_absolute 157"]);
    let camera = Fake::webcam();
    camera.asked(&[("exposure", "auto"), ("white_balance", "auto"), ("power_line", "60")]).unwrap();
    assert_eq!(*camera.values.borrow(), [(0x009a_0901, 3), (0x0098_090c, 1), (0x0098_0918, 2)]);
}

#[test]
fn any_control_is_set_by_its_name_and_a_menu_by_its_entrys() {
    let camera = Fake::webcam();
    let pairs = [
        ("ctrl.exposure_dynamic_framerate", "on"),
        ("ctrl.Power_Line_Frequency", "50_hz"),
        ("ctrl.auto_exposure", "Manual Mode"),
        ("ctrl.brightness", "0x10"),
    ];
    camera.asked(&pairs).unwrap();
    assert_eq!(*camera.values.borrow(), [(0x009a_0903, 1), (0x0098_0918, 1), (0x009a_0901, 1), (0x0098_0900, 16)]);
}

#[test]
fn what_a_control_does_not_take_is_told_with_what_it_does() {
    let camera = Fake::webcam()
        .with(0x0098_0a00, 4, "Reset", [0, 0, 0], 0)
        .with(0x0098_0a01, 1, "Serial", [0, 9, 1], state::READ_ONLY)
        .with(0x0098_0a02, 1, "Hue", [0, 9, 1], state::INACTIVE);
    for (option, value, words) in [
        ("brightness", "65", "option brightness=65: control brightness: expected -64 to 64"),
        ("white_balance", "4605", "expected 2800 to 6500 in steps of 10"),
        ("power_line", "auto", "expected 0 (Disabled), 1 (50 Hz), 2 (60 Hz)"),
        ("ctrl.auto_exposure", "2", "expected 1 (Manual Mode), 3 (Aperture Priority Mode)"),
        ("gain", "3", "has no control gain"),
        ("focus", "auto", "has no control automatic focus"),
        ("ctrl.brightnes", "3", "did you mean ctrl.brightness?"),
        ("ctrl.shutter", "3", "its controls are: brightness, white_balance_automatic, "),
        ("ctrl.exposure_dynamic_framerate", "2", "expected 0 or 1"),
        ("ctrl.reset", "1", "control reset is no number"),
        ("ctrl.serial", "1", "control serial can only be read"),
        ("ctrl.hue", "1", "control hue is inactive"),
    ] {
        let message = camera.asked(&[(option, value)]).unwrap_err();
        assert!(message.contains(words), "{option}={value}: {message}");
    }
    assert!(camera.values.borrow().is_empty());
}

#[test]
fn a_driver_that_refuses_is_told_by_name_and_may_come_round() {
    let camera = Fake { refuses: Some(Errno::EIO), ..Fake::webcam() };
    let settings = [Setting { option: "brightness".into(), value: "3".into() }];
    let fault = apply(&camera, &settings).unwrap_err();
    assert!(matches!(&fault, Fault::Gone(why) if why.contains("setting control brightness to 3")), "{fault:?}");
    let camera = Fake { refuses: Some(Errno::EINVAL), ..Fake::webcam() };
    assert!(matches!(apply(&camera, &settings).unwrap_err(), Fault::Unfit(_)));
}

#[test]
fn headings_are_no_controls_and_a_driver_without_any_has_none() {
    let names: Vec<String> = list(&Fake::webcam()).into_iter().map(|control| control.name).collect();
    assert!(names.contains(&"white_balance_automatic".into()) && !names.contains(&"user_controls".into()));
    let message = Fake::default().asked(&[("gain", "3")]).unwrap_err();
    assert!(message.contains("its controls are: none"), "{message}");
    assert_eq!(Fake::default().asked(&[]), Ok(vec![]));
}
