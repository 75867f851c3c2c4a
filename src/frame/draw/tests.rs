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
    draw_box(&mut frame, edges(3.0, 4.0, 12.0, 15.0), None, BoxStyle { colour: RED, stroke: 2, text_px: None });
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
    let style = BoxStyle { colour: [255, 255, 0], stroke: 1, text_px: None };
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
        draw_label(&mut frame, corner, "bird", BoxStyle { colour: RED, stroke: 0, text_px: None });
        let seen = frame.pixels().as_chunks::<3>().0.iter().filter(|&&pixel| pixel == RED).count();
        assert!(seen > 200, "{corner}: {seen} pixels");
    }
}

#[test]
fn nothing_outside_is_drawn_and_nothing_panics() {
    let far = [-1e30, -70000.5, -1.0, 0.0, 31.4, 32.0, 1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for size in [(0, 0), (1, 1), (32, 17)] {
        let mut frame = Frame::new(size.0, size.1);
        let style = BoxStyle { colour: RED, stroke: u32::MAX, text_px: None };
        for &a in &far {
            for &b in &far {
                draw_box(&mut frame, edges(a, b, b, a), Some("naïve 猫"), style);
                draw_box(&mut frame, edges(a, a, b, b), Some(""), style);
            }
        }
    }
    let mut frame = Frame::new(32, 17);
    draw_box(&mut frame, edges(40.0, 2.0, 60.0, 9.0), None, BoxStyle { colour: RED, stroke: 1, text_px: None });
    draw_box(&mut frame, edges(9.0, 9.0, 3.0, 12.0), None, BoxStyle { colour: RED, stroke: 1, text_px: None });
    assert!(frame.pixels().iter().all(|&level| level == 0));
}

fn drawing(frame: &Frame) -> Vec<String> {
    let letter = |x, y| if pixel(frame, x, y) == [0; 3] { '.' } else { '#' };
    (0..frame.height()).map(|y| (0..frame.width()).map(|x| letter(x, y)).collect()).collect()
}

#[test]
fn a_polygon_is_filled_with_its_edges_and_blended_once() {
    let mut frame = Frame::new(8, 6);
    frame.pixels_mut().fill(100);
    let tint = Tint { colour: [200, 100, 0], opacity: 128 };
    let corners = [[1.0, 1.0], [1.0, 4.0], [5.0, 4.0], [5.0, 1.0]];
    PolygonFiller::default().fill(&mut frame, &corners, tint);
    for y in 0..6 {
        for x in 0..8 {
            // The lower edge belongs to the next polygon, as in any scan conversion.
            let inside = (1..=5).contains(&x) && (1..4).contains(&y);
            assert_eq!(pixel(&frame, x, y), if inside { [150, 100, 50] } else { [100; 3] }, "{x}, {y}");
        }
    }
}

#[test]
fn a_polygon_with_a_dent_is_empty_there() {
    let mut frame = Frame::new(9, 4);
    let corners = [[0.0, 0.0], [0.0, 4.0], [8.0, 4.0], [8.0, 0.0], [6.0, 0.0], [6.0, 2.5], [2.0, 2.5], [2.0, 0.0]];
    PolygonFiller::default().fill(&mut frame, &corners, Tint { colour: RED, opacity: 256 });
    assert_eq!(drawing(&frame), ["###...###", "###...###", "###...###", "#########"]);
}

#[test]
fn lines_and_discs() {
    let mut frame = Frame::new(9, 5);
    draw_line(&mut frame, [1.0, 1.0], [3.0, 3.0], RED, 1);
    draw_disc(&mut frame, [6.0, 2.0], 2, RED);
    assert_eq!(drawing(&frame), [".....###.", ".#..#####", "..#.#####", "...######", ".....###."]);
    let mut frame = Frame::new(5, 4);
    draw_line(&mut frame, [-1e9, 1.0], [1e9, 1.0], RED, 2);
    assert_eq!(drawing(&frame), [".....", "#####", "#####", "....."]);
}

#[test]
fn captions_stand_below_each_other_until_there_is_no_room() {
    let mut frame = Frame::new(100, 40);
    let lines = (0..1000).map(|line| (format!("line {line}"), if line == 1 { [0, 0, 255] } else { RED }));
    draw_captions(&mut frame, None, lines);
    assert_eq!(pixel(&frame, 0, 0), RED);
    assert_eq!(pixel(&frame, 0, 20), [0, 0, 255]);
    assert_eq!(pixel(&frame, 0, 39), RED);
}

#[test]
fn shapes_far_outside_draw_nothing_and_panic_nowhere() {
    let far = [f32::MIN, -70000.5, -1.0, 0.0, 31.4, 1e9, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    let tint = Tint { colour: RED, opacity: u16::MAX };
    let mut filler = PolygonFiller::default();
    for size in [(0, 0), (1, 1), (32, 17)] {
        let mut frame = Frame::new(size.0, size.1);
        for &a in &far {
            for &b in &far {
                draw_line(&mut frame, [a, b], [b, a], RED, u32::MAX);
                draw_disc(&mut frame, [a, b], u32::MAX, RED);
                filler.fill(&mut frame, &[[a, b], [b, b], [b, a], [a, a], [3.0, b]], tint);
            }
        }
    }
    let mut frame = Frame::new(32, 17);
    draw_line(&mut frame, [40.0, -3.0], [60.0, 90.0], RED, 3);
    draw_disc(&mut frame, [-9.0, 5.0], 8, RED);
    filler.fill(&mut frame, &[[40.0, 0.0], [90.0, 0.0], [90.0, 16.0]], tint);
    filler.fill(&mut frame, &[[4.0, 4.0], [9.0, 4.0]], tint);
    assert!(frame.pixels().iter().all(|&level| level == 0));
}
