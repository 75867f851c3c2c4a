//! Names of classes and of key points, where an export does not bring its own.

use super::facts::Facts;
use super::literal::Literal;

/// Class names of the COCO data set, in its order.
const COCO: &str = "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,\
    parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,\
    frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,\
    wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,\
    couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,\
    refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush";
/// Numbers that COCO's categories leave out; RF-DETR's logits are numbered by category.
const COCO_GAPS: [usize; 11] = [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83];
/// Logits of an RF-DETR that was trained on COCO.
const COCO_LOGITS: usize = 91;
/// Key points of a person in COCO, and what is drawn joined.
const PERSON: &str = "nose,left_eye,right_eye,left_ear,right_ear,left_shoulder,right_shoulder,left_elbow,right_elbow,\
    left_wrist,right_wrist,left_hip,right_hip,left_knee,right_knee,left_ankle,right_ankle";
const PERSON_EDGES: [(usize, usize); 19] = [
    (15, 13),
    (13, 11),
    (16, 14),
    (14, 12),
    (11, 12),
    (5, 11),
    (6, 12),
    (5, 6),
    (5, 7),
    (6, 8),
    (7, 9),
    (8, 10),
    (1, 2),
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 4),
    (3, 5),
    (4, 6),
];
/// The word of `--classes` for COCO's names.
pub const COCO_WORD: &str = "coco";

/// Points of an object, in order, and pairs that are drawn joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Points {
    pub names: Vec<String>,
    pub edges: Vec<(usize, usize)>,
}

/// COCO's names, in order.
#[must_use]
pub fn coco() -> Vec<String> {
    COCO.split(',').map(str::to_owned).collect()
}

/// Names of the classes that a file brings; `None` where it brings none.
///
/// # Errors
/// It brings what is no list of names.
pub fn of_classes(facts: &Facts, model_type: &str) -> Result<Option<Vec<String>>, String> {
    if let Some(names) = facts.literal("names")? {
        return names.names().map(Some).map_err(|why| format!("metadata `names`: {why}"));
    }
    if model_type != "rfdetr" {
        return Ok(None);
    }
    // What its exporter lets a user put in, in Python's or JSON's words, which are the same for lists and objects of strings.
    let notes = facts.metadata.get("rfdetr_notes").and_then(|notes| Literal::parse(notes).ok());
    let noted = notes.and_then(|notes| match notes {
        Literal::Dict(entries) => {
            entries.into_iter().find(|(key, _)| key.text() == Some("class_names")).map(|(_, v)| v)
        }
        list => Some(list),
    });
    if let Some(names) = noted.and_then(|names| names.names().ok()) {
        return Ok(Some(names));
    }
    let logits = facts.outputs.iter().find(|output| output.name == "labels").and_then(|output| *output.dims.last()?);
    Ok((logits == Some(COCO_LOGITS)).then(coco_by_category))
}

/// One name a category of COCO, in the order of their numbers.
fn coco_by_category() -> Vec<String> {
    let mut names = COCO.split(',');
    let name = |category| match COCO_GAPS.contains(&category) {
        true => format!("unused_{category}"),
        false => names.next().unwrap_or_default().to_owned(),
    };
    (0..COCO_LOGITS).map(name).collect()
}

/// Key points of an object, as far as a file says; the same of every class.
///
/// # Errors
/// It says how many there are in words that are none, or not at all.
pub fn of_points(facts: &Facts) -> Result<Points, String> {
    let shape = facts.literal("kpt_shape")?;
    let counts = shape.as_ref().and_then(Literal::list).map(|list| list.iter().map(Literal::count).collect::<Vec<_>>());
    let Some(&[Some(points), Some(numbers)]) = counts.as_deref() else {
        return Err("the metadata has no `kpt_shape`, which says how many key points an object has".into());
    };
    if numbers != 3 || points == 0 {
        return Err(format!(
            "metadata `kpt_shape`: {points} points of {numbers} numbers each; known are x, y, confidence"
        ));
    }
    let given = facts.literal("kpt_names")?.and_then(|names| match names {
        Literal::Dict(by_class) => by_class.into_iter().next().map(|(_, names)| names),
        list => Some(list),
    });
    let given = given.and_then(|names| names.names().ok()).filter(|names| names.len() == points);
    let person: Vec<String> = PERSON.split(',').map(str::to_owned).collect();
    let names = given.unwrap_or_else(|| match points == person.len() {
        true => person.clone(),
        false => (0..points).map(|point| format!("keypoint_{point}")).collect(),
    });
    let edges = if names == person { PERSON_EDGES.to_vec() } else { Vec::new() };
    Ok(Points { names, edges })
}

#[cfg(test)]
mod tests {
    use super::super::facts::Output;
    use super::*;

    fn facts(metadata: &[(&str, &str)], logits: usize) -> Facts {
        Facts {
            metadata: metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            outputs: vec![Output { name: "labels".into(), dims: vec![Some(1), Some(300), Some(logits)] }],
            ..Facts::default()
        }
    }

    #[test]
    fn classes_of_coco_have_their_numbers() {
        let names = of_classes(&facts(&[], 91), "rfdetr").unwrap().unwrap();
        let of = |category: usize| names[category].as_str();
        // As the data set's own annotations number them.
        assert_eq!(
            [of(1), of(13), of(17), of(44), of(62), of(90)],
            ["person", "stop sign", "cat", "bottle", "chair", "toothbrush"]
        );
        assert_eq!((coco().len(), names.len(), of(12)), (80, 91, "unused_12"));
        assert_eq!(of_classes(&facts(&[], 5), "rfdetr").unwrap(), None);
        assert_eq!(of_classes(&facts(&[], 91), "yolox").unwrap(), None);
    }

    #[test]
    fn names_of_the_metadata_go_first() {
        let notes = [("rfdetr_notes", r#"{"class_names": ["a", "b"]}"#)];
        assert_eq!(of_classes(&facts(&notes, 91), "rfdetr").unwrap().unwrap(), ["a", "b"]);
        assert_eq!(of_classes(&facts(&[("names", "['x']")], 91), "yolov5").unwrap().unwrap(), ["x"]);
        assert!(of_classes(&facts(&[("names", "{0: ")], 91), "yolov8").unwrap_err().contains("`names`"));
    }

    #[test]
    fn points_have_the_names_of_a_person_or_numbers() {
        let person = of_points(&facts(&[("kpt_shape", "[17, 3]")], 1)).unwrap();
        assert_eq!((person.names[0].as_str(), person.edges.len()), ("nose", 19));
        let other = of_points(&facts(&[("kpt_shape", "(2, 3)")], 1)).unwrap();
        assert_eq!((other.names, other.edges), (vec!["keypoint_0".into(), "keypoint_1".into()], vec![]));
        let named = [("kpt_shape", "[2, 3]"), ("kpt_names", "{0: ['head', 'tail']}")];
        assert_eq!(of_points(&facts(&named, 1)).unwrap().names, ["head", "tail"]);
        for shape in ["[17, 2]", "[17]", "17", "[0, 3]"] {
            assert!(of_points(&facts(&[("kpt_shape", shape)], 1)).is_err(), "{shape}");
        }
    }
}
