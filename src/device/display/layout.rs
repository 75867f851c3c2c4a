//! Where things lie on a screen of any size and shape.

use crate::frame::Size;

/// A unit is a twenty-fourth of the shorter side: what is written in one is read at forty times the screen's height.
const UNITS: usize = 24;
/// Shortest unit in pixels: letters below nine are no letters.
const UNIT_MIN: usize = 10;
/// Shape of the picture before there is one.
const EXPECTED: Size = Size { width: 4, height: 3 };

/// The size by which all others are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Unit(usize);

impl Unit {
    /// Pixels of so many tenths of it.
    pub fn tenths(self, tenths: usize) -> usize {
        self.0 * tenths / 10
    }
}

/// A rectangle in pixels of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Area {
    pub fn right(self) -> usize {
        self.left + self.width
    }

    pub fn bottom(self) -> usize {
        self.top + self.height
    }

    /// Where something of a height begins that lies in the middle.
    pub fn middle(self, height: usize) -> usize {
        self.top + self.height.saturating_sub(height) / 2
    }

    /// Without a margin.
    pub fn within(self, margin: usize) -> Self {
        Self {
            left: self.left + margin,
            top: self.top + margin,
            width: self.width.saturating_sub(2 * margin),
            height: self.height.saturating_sub(2 * margin),
        }
    }

    /// The largest area of a shape in the middle of this one.
    fn fit(self, shape: Size) -> Self {
        let Size { width, height } = shape;
        let (width, height) = if width * self.height >= height * self.width {
            (self.width, self.width * height / width.max(1))
        } else {
            (self.height * width / height.max(1), self.height)
        };
        Self { left: self.left + (self.width - width) / 2, top: self.top + (self.height - height) / 2, width, height }
    }
}

/// Where everything lies.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub unit: Unit,
    pub whole: Area,
    pub header: Area,
    /// What the picture may fill.
    pub view: Area,
    /// What it fills.
    pub picture: Area,
    /// For counts and figures, where the picture leaves room; else they are in the footer.
    pub panel: Option<Area>,
    pub footer: Area,
}

impl Layout {
    /// For a screen and a picture of these sizes, the latter 0×0 before the first. What is not `live` has no panel: the
    /// room is for what is wrong.
    pub fn of(screen: Size, picture: Size, live: bool) -> Self {
        let Size { width, height } = screen;
        let unit = Unit((width.min(height) / UNITS).max(UNIT_MIN));
        let whole = Area { left: 0, top: 0, width, height };
        let header = Area { height: unit.tenths(28).min(height), ..whole };
        let body = Area { top: header.height, height: height - header.height, ..whole };
        let shape = if picture.width == 0 { EXPECTED } else { picture };
        let fitted = body.fit(shape);
        let (beside, below) = (width - fitted.width, body.height - fitted.height);
        // A fifth of the width holds a name and a number, a quarter of the height a few lines.
        let (view, panel) = if live && beside * 5 >= width {
            let panel = beside.min(width * 2 / 5);
            let view = Area { width: width - panel, ..body };
            (view, Some(Area { left: view.right(), width: panel, ..body }))
        } else if live && below * 4 >= body.height {
            let view = Area { height: fitted.height, ..body };
            (view, Some(Area { top: view.bottom(), height: below, ..body }))
        } else {
            (Area { height: body.height.saturating_sub(unit.tenths(20)), ..body }, None)
        };
        let footer = Area { top: view.bottom(), height: height - view.bottom(), ..whole };
        Self { unit, whole, header, view, picture: view.fit(shape), panel, footer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_screen_and_nothing_overlaps() {
        for (width, height) in [(640, 400), (800, 480), (1920, 1080), (480, 800), (320, 240), (160, 160), (3840, 1080)]
        {
            for picture in [(0, 0), (640, 480), (1920, 1080), (480, 640), (1, 65_535), (65_535, 1)] {
                for live in [false, true] {
                    let layout = Layout::of(Size::new(width, height), Size::new(picture.0, picture.1), live);
                    let panel = layout.panel.unwrap_or_default();
                    for area in [layout.header, layout.view, layout.picture, layout.footer, panel] {
                        assert!(area.right() <= width && area.bottom() <= height, "{width}x{height} {layout:?}");
                    }
                    assert!(layout.picture.top >= layout.view.top && layout.picture.bottom() <= layout.view.bottom());
                    assert!(layout.picture.left >= layout.view.left && layout.picture.right() <= layout.view.right());
                    assert!(layout.panel.is_none_or(|panel| {
                        panel.left >= layout.view.right() || panel.top >= layout.view.bottom()
                    }));
                }
            }
        }
    }

    #[test]
    fn a_wide_screen_has_the_panel_beside_the_picture_and_a_tall_one_below() {
        let of = |width, height, seen| Layout::of(Size::new(width, height), seen, true);
        let wide = of(1920, 1080, Size::new(640, 480));
        assert_eq!(wide.panel.unwrap().left, wide.picture.right());
        assert_eq!(wide.picture.height, 1080 - wide.header.height);
        let tall = of(480, 800, Size::new(640, 480));
        assert_eq!((tall.panel.unwrap().top, tall.picture.width), (tall.picture.bottom(), 480));
        // A picture of the screen's own shape leaves a line.
        let same = of(1920, 1080, Size::new(1920, 1080));
        assert!(same.panel.is_none() && same.footer.height > 0);
    }
}
