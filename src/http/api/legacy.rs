//! Roboflow's first interface, which its hosted service still has: `GET` or `POST /{project}/{version}`, the wishes in
//! the query, the image as base64 text or as the part `file` of a form.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::body::Bytes;

use super::fault::Fault;
use super::fields::{Wishes, masks, preprocessing, stroke};
use super::image::{no_numpy, no_url};
use super::infer::{self, Form, Input, Order};
use super::json::Json;
use super::lax::{Null, Reader};
use super::{Api, Call};
use crate::http::query;
use crate::http::reply::Answer;
use crate::model::{Confidence, Request};

/// Below it, candidates take more memory than they are worth: Roboflow's own floor.
const CONFIDENCE_MIN: f64 = 0.01;
/// Parts of a form that are looked at for the one named `file`.
const PARTS_MAX: usize = 64;

/// What a query says.
#[derive(Debug)]
struct Asked<'a> {
    wishes: Wishes<'a>,
    form: Form,
    /// `image`, which is a URL.
    url: bool,
    /// `image_type`.
    numpy: bool,
}

/// Whether the image comes in a form; `Err` when nothing says how it comes.
fn is_form(content_type: Option<&str>) -> Result<bool, Fault> {
    let missing = || Fault::told(StatusCode::BAD_REQUEST, "Content-Type header not provided with request.");
    let content_type = content_type.ok_or_else(missing)?;
    Ok(content_type.to_ascii_lowercase().contains("multipart/form-data"))
}

/// Answers for the model of a path. Runs on a worker.
pub(super) fn answer(api: &Api, call: &Call, id: &str) -> Answer {
    match read(id, call) {
        Ok((asked, file)) => {
            let Asked { wishes, form, .. } = asked;
            let input = match &file {
                Some(file) => Input::Encoded(file),
                None => Input::Base64(call.body()),
            };
            infer::fulfil(api, call, &Order { wishes, inputs: vec![input], list: false, form })
        }
        Err(fault) => fault.into_answer(),
    }
}

/// The query, and the file of a form.
fn read<'a>(id: &'a str, call: &Call) -> Result<(Asked<'a>, Option<Bytes>), Fault> {
    let asked = wishes(id, &call.query)?;
    if asked.url {
        return Err(no_url());
    }
    let content_type = call.content_type.as_deref();
    let form = is_form(content_type)?;
    if asked.numpy && !form {
        return Err(no_numpy());
    }
    if form {
        let file = file_of(content_type.unwrap_or_default(), call.body())?;
        return Ok((asked, Some(file)));
    }
    if looks_encoded(call.body()) {
        let why = "Invalid base64 input: the body is an image file as it is.";
        let advice = "send it as base64 text, or as a form's part named `file`";
        return Err(Fault::image(why, Some(advice.into())));
    }
    Ok((asked, None))
}

/// Whether a body begins as a picture's file does, which base64 text cannot.
fn looks_encoded(body: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 5] = [b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*"];
    BEGINNINGS.iter().any(|beginning| body.starts_with(beginning)) && !body.is_ascii()
}

fn wishes<'a>(model_id: &'a str, text: &str) -> Result<Asked<'a>, Fault> {
    let members = query::pairs(text).map(|(name, value)| (name.into(), Json::Text(value.into()))).collect();
    let mut reader = Reader::new(members, "query");
    let read = &mut reader;
    let confidence = read.confidence("confidence").map(|confidence| match confidence {
        Confidence::Number(number) => Confidence::Number(fraction(number).max(CONFIDENCE_MIN)),
        word @ Confidence::Word(_) => word,
    });
    let mut request = Request { confidence, ..Request::default() };
    read.number("keypoint_confidence", Null::Refused);
    let format = read.text("format", Null::Refused).unwrap_or(Cow::Borrowed("json"));
    let url = read.text("image", Null::Refused).is_some();
    let numpy = read.text("image_type", Null::Refused).is_some_and(|kind| kind.eq_ignore_ascii_case("numpy"));
    read.flag("include_candidates", Null::Refused);
    request.visualization_labels = read.flag("labels", Null::Refused);
    masks(read, &mut request);
    request.max_detections = read.count("max_detections", Null::Refused);
    request.iou_threshold = read.number("overlap", Null::Refused).map(fraction);
    request.visualization_stroke_width = read.integer("stroke", Null::Refused).map(stroke);
    preprocessing(read, &mut request);
    for name in ["disable_active_learning", "include_anomaly_map", "countinference"] {
        read.flag(name, Null::Refused);
    }
    if !reader.problems.is_empty() {
        return Err(Fault::Invalid(reader.problems));
    }
    let visualize = matches!(&*format, "image" | "image_and_json");
    let form = if format == "image" { Form::Jpeg } else { Form::Json };
    let wishes = Wishes { model_id: model_id.into(), id: None, visualize, request };
    Ok(Asked { wishes, form, url, numpy })
}

/// Numbers from 1 on are percent.
fn fraction(number: f64) -> f64 {
    if number >= 1.0 { number / 100.0 } else { number }
}

/// The part `file` of a form.
fn file_of(content_type: &str, body: &Bytes) -> Result<Bytes, Fault> {
    let invalid = "Invalid Content-Type header provided with request.";
    let boundary = multer::parse_boundary(content_type)
        .map_err(|error| Fault::told(StatusCode::BAD_REQUEST, invalid).because(error))?;
    let broken = |error: multer::Error| Fault::image(format_args!("The form cannot be read: {error}."), None);
    let whole = smol::stream::once(Ok::<_, std::convert::Infallible>(body.clone()));
    let mut form = multer::Multipart::new(whole, boundary);
    // All of it is here: nothing waits.
    smol::future::block_on(async {
        for _ in 0..PARTS_MAX {
            match form.next_field().await.map_err(broken)? {
                None => break,
                Some(part) if part.name() == Some("file") => return part.bytes().await.map_err(broken),
                Some(_) => {}
            }
        }
        Err(Fault::image("The form has no part named `file`.", None))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::body::Whole;
    use super::*;
    use crate::model::{ConfidenceWord, MaskDecodeMode, MaskFormat};
    use crate::random::Random;

    fn call(query: &str, content_type: Option<&str>, body: &Bytes) -> Call {
        Call {
            path: "/parts/1".into(),
            query: query.into(),
            content_type: content_type.map(str::to_owned),
            body: Some(Whole::of(body.clone())),
            lock: None,
            by: Instant::now(),
        }
    }

    fn read<'a>(call: &Call) -> Result<(Asked<'a>, Option<Bytes>), Fault> {
        super::read("parts/1", call)
    }

    fn told(result: Result<(Asked<'_>, Option<Bytes>), Fault>) -> (u16, serde_json::Value) {
        let answer = result.unwrap_err().into_answer();
        let status = answer.status().as_u16();
        let body = smol::block_on(http_body_util::BodyExt::collect(answer.into_body())).unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    const FORM: &str = "multipart/form-data; boundary=B";

    fn form(name: &str) -> Bytes {
        format!(
            "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb\r\n--B\r\nContent-Disposition: form-data; \
             name=\"{name}\"; filename=\"a.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n\u{7f}image\r\n--B--\r\n"
        )
        .into()
    }

    #[test]
    fn the_query_has_the_wishes() {
        let text = "api_key=k&confidence=20&overlap=0.5&labels=true&stroke=3&format=image&max_detections=5\
                    &disable_preproc_contrast=True&allow_reduced_mask_resolution=False&disable_active_learning=False\
                    &mask_decode_mode=tradeoff&tradeoff_factor=0.5&response_mask_format=rle&keypoint_confidence=0.2";
        let asked = wishes("a/1", text).unwrap();
        let expected = Request {
            confidence: Some(Confidence::Number(0.2)),
            iou_threshold: Some(0.5),
            max_detections: Some(5),
            disable_preproc_contrast: Some(true),
            allow_reduced_mask_resolution: Some(false),
            mask_decode_mode: Some(MaskDecodeMode::Tradeoff),
            tradeoff_factor: Some(0.5),
            response_mask_format: Some(MaskFormat::Rle),
            visualization_labels: Some(true),
            visualization_stroke_width: Some(3),
            ..Request::default()
        };
        assert_eq!((asked.wishes.request, asked.form), (expected, Form::Jpeg));
        let confidence = |query: &'static str| wishes("a/1", query).unwrap().wishes.request.confidence;
        assert_eq!(confidence("confidence=0"), Some(Confidence::Number(CONFIDENCE_MIN)));
        assert_eq!(confidence("confidence=best"), Some(Confidence::Word(ConfidenceWord::Best)));
        assert_eq!(confidence(""), None);
    }

    #[test]
    fn a_wrong_query_is_422_with_its_place() {
        let (status, body) = told(read(&call("confidence=x&labels=2", Some("a/b"), &Bytes::new())));
        assert_eq!((status, &body["detail"][0]["loc"]), (422, &serde_json::json!(["query", "confidence", "float"])));
        assert_eq!(body["detail"][2]["type"], "bool_parsing");
    }

    #[test]
    fn an_image_comes_as_text_or_as_a_file_and_in_no_other_way() {
        let text = Bytes::from_static(b"aGVsbG8=");
        for content_type in ["application/json", "application/x-www-form-urlencoded", "image/jpeg", "x"] {
            assert_eq!(read(&call("", Some(content_type), &text)).unwrap().1, None, "{content_type}");
        }
        let file = read(&call("", Some(FORM), &form("file"))).unwrap().1;
        assert_eq!(file.as_deref(), Some(&b"\x7fimage"[..]));
        let message = |call: &Call| {
            let (status, body) = told(read(call));
            assert_eq!(status, 400);
            body["message"].as_str().unwrap().to_owned()
        };
        assert_eq!(message(&call("", None, &text)), "Content-Type header not provided with request.");
        let no_boundary = message(&call("", Some("multipart/form-data"), &text));
        assert_eq!(no_boundary, "Invalid Content-Type header provided with request.");
        assert!(message(&call("image=https://a.example/b.jpg", None, &text)).contains("from URL"));
        assert!(message(&call("image_type=numpy", Some("x"), &text)).contains("NumPy"));
        assert!(message(&call("", Some(FORM), &form("picture"))).contains("no part named `file`"));
        let jpeg = Bytes::from_static(b"\xff\xd8\xff\xe0");
        assert!(message(&call("", Some("image/jpeg"), &jpeg)).contains("Invalid base64 input"));
    }

    #[test]
    fn thousands_of_damaged_forms_panic_nowhere() {
        let mut random = Random::new(0xf0);
        let whole = form("file");
        let mut read = 0;
        for _ in 0..5_000 {
            let mut body = whole.to_vec();
            for _ in 0..=random.below(3) {
                let at = random.below(body.len());
                match random.below(4) {
                    0 => body[at] = u8::try_from(random.below(256)).unwrap(),
                    1 => body.truncate(at.max(1)),
                    2 => drop(body.splice(at..at, *b"\r\n--B\r\n")),
                    _ => drop(body.splice(at..at, b"a: b\r\n".repeat(40))),
                }
            }
            read += usize::from(file_of(FORM, &body.into()).is_ok());
        }
        assert!(read > 100, "{read}");
    }
}
