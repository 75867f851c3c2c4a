//! Drawing, looked at pixel by pixel, and thrown about outside the frame.

use super::*;

const RED: Colour = [255, 0, 0];

fn pixel(frame: &Frame, x: usize, y: usize) -> Colour {
    frame.row(y)[x * CHANNELS..][..CHANNELS].try_into().unwrap()
}

fn edges(left: f32, top: f32, right: f32, bottom: f32) -> Edges {
    Edges { left, top, right, bottom }
}

#[test]
fn a_box_is_hollow_and_its_edges_belong_to_it() {
    let mut frame = Frame::new(20, 20);
    draw_box(&mut frame, edges(3.0, 4.0, 12.0, 15.0), None, BoxStyle { colour: RED, stroke: 2 });
    for y in 0..20 {
        for x in 0..20 {
            let outside = !(3..=12).contains(&x) || !(4..=15).contains(&y);
            let inside = (5..=10).contains(&x) && (6..=13).contains(&y);
            let expected = if outside || inside { [0; 3] } else { RED };
            assert_eq!(pixel(&frame, x, y), expected, "{x}, {y}");
        }
    }
}

#[test]
fn a_label_lies_above_its_box_and_can_be_read() {
    let mut frame = Frame::new(200, 100);
    let style = BoxStyle { colour: [255, 255, 0], stroke: 1 };
    draw_box(&mut frame, edges(10.0, 50.0, 100.0, 90.0), Some("cat 0.91"), style);
    assert_eq!(pixel(&frame, 10, 48), [255, 255, 0]);
    let letters = (33..50).flat_map(|y| (10..80).map(move |x| (x, y)));
    assert!(letters.into_iter().any(|(x, y)| pixel(&frame, x, y) == [0; 3]), "black letters on yellow");
    assert_eq!(pixel(&frame, 150, 45), [0; 3]);
    assert_eq!(text_colour([0, 0, 128]), [255; 3]);
}

#[test]
fn labels_at_the_edges_stay_in_sight() {
    for corner in [Point::new(-50, -50), Point::new(199, 0), Point::new(190, 99)] {
        let mut frame = Frame::new(200, 100);
        draw_label(&mut frame, corner, "bird", RED);
        let seen = frame.pixels().as_chunks::<3>().0.iter().filter(|&&pixel| pixel == RED).count();
        assert!(seen > 200, "{corner}: {seen} pixels");
    }
}

#[test]
fn nothing_outside_is_drawn_and_nothing_panics() {
    let far = [-1e30, -70000.5, -1.0, 0.0, 31.4, 32.0, 1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for size in [(0, 0), (1, 1), (32, 17)] {
        let mut frame = Frame::new(size.0, size.1);
        let style = BoxStyle { colour: RED, stroke: u32::MAX };
        for &a in &far {
            for &b in &far {
                draw_box(&mut frame, edges(a, b, b, a), Some("naïve 猫"), style);
                draw_box(&mut frame, edges(a, a, b, b), Some(""), style);
            }
        }
    }
    let mut frame = Frame::new(32, 17);
    draw_box(&mut frame, edges(40.0, 2.0, 60.0, 9.0), None, BoxStyle { colour: RED, stroke: 1 });
    draw_box(&mut frame, edges(9.0, 9.0, 3.0, 12.0), None, BoxStyle { colour: RED, stroke: 1 });
    assert!(frame.pixels().iter().all(|&level| level == 0));
}
