//! Which path is what: Roboflow's routes (SPEC, Appendix D), those that are answered and those that are refused by name.

use super::fields::Kind;
use hyper::header::HeaderValue;

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Infer(Kind),
    /// `/{project}/{version}`.
    Legacy(String),
    /// `/start/{project}/{version}`.
    Start(String),
    Registry,
    Add,
    Remove,
    Clear,
    ClearCache,
    /// Ours: what is in the cache.
    Models,
    /// Something that Roboflow's server does and this one does not.
    Absent(Absent),
}

/// What is not served, and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    Workflows,
    WebRtc,
    Notebook,
    /// Roboflow's own server says that it is gone.
    Gaze,
    /// A model that is no package of a cache.
    Model(&'static str),
}

/// Methods of a path, besides `OPTIONS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    Get,
    Post,
    Both,
}

impl Methods {
    pub(super) fn allow(self, method: &hyper::Method) -> bool {
        match *method {
            hyper::Method::GET | hyper::Method::HEAD => self != Self::Post,
            hyper::Method::POST => self != Self::Get,
            _ => false,
        }
    }

    pub(super) fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Get => "GET, HEAD, OPTIONS",
            Self::Post => "POST, OPTIONS",
            Self::Both => "GET, HEAD, POST, OPTIONS",
        })
    }
}

/// The route of a decoded path.
pub(super) fn find(path: &str) -> Option<(Route, Methods)> {
    let exact = match path {
        "/infer/object_detection" => (Route::Infer(Kind::Detection), Methods::Post),
        "/infer/instance_segmentation" => (Route::Infer(Kind::InstanceSegmentation), Methods::Post),
        "/infer/keypoints_detection" => (Route::Infer(Kind::Keypoints), Methods::Post),
        "/infer/classification" => (Route::Infer(Kind::Classification), Methods::Post),
        "/infer/semantic_segmentation" => (Route::Infer(Kind::SemanticSegmentation), Methods::Post),
        "/model/registry" => (Route::Registry, Methods::Get),
        "/model/add" => (Route::Add, Methods::Post),
        "/model/remove" => (Route::Remove, Methods::Post),
        "/model/clear" => (Route::Clear, Methods::Post),
        "/clear_cache" => (Route::ClearCache, Methods::Get),
        "/models" => (Route::Models, Methods::Get),
        _ => return find_absent(path).map(|absent| (Route::Absent(absent), Methods::Both)).or_else(|| by_shape(path)),
    };
    Some(exact)
}

fn find_absent(path: &str) -> Option<Absent> {
    Some(match path {
        "/notebook/start" => Absent::Notebook,
        "/gaze/gaze_detection" => Absent::Gaze,
        "/initialise_webrtc_worker" | "/webrtc/session/heartbeat" | "/webrtc/session/heartbeat/end" => Absent::WebRtc,
        "/infer/lmm" => Absent::Model("a language model"),
        "/infer/depth-estimation" => Absent::Model("a depth model"),
        "/infer/action_recognition" => Absent::Model("a video model"),
        "/infer/embeddings" => Absent::Model("embeddings of a classifier"),
        "/clip/embed_image" | "/clip/embed_text" | "/clip/compare" => Absent::Model("CLIP"),
        "/perception_encoder/embed_image" | "/perception_encoder/embed_text" | "/perception_encoder/compare" => {
            Absent::Model("Perception Encoder")
        }
        "/grounding_dino/infer" => Absent::Model("Grounding DINO"),
        "/yolo_world/infer" => Absent::Model("YOLO-World"),
        "/owlv2/infer" => Absent::Model("OWLv2"),
        "/doctr/ocr" => Absent::Model("docTR"),
        "/easy_ocr/ocr" => Absent::Model("EasyOCR"),
        "/ocr/trocr" => Absent::Model("TrOCR"),
        "/ocr/pp-ocr" => Absent::Model("PP-OCR"),
        "/sam/embed_image" | "/sam/segment_image" => Absent::Model("SAM"),
        "/sam2/embed_image" | "/sam2/segment_image" => Absent::Model("SAM 2"),
        "/sam3/embed_image" | "/sam3/concept_segment" | "/sam3/visual_segment" => Absent::Model("SAM 3"),
        "/sam3_3d/infer" => Absent::Model("SAM 3D"),
        _ => return None,
    })
}

/// Routes with something in their path that is the client's.
fn by_shape(path: &str) -> Option<(Route, Methods)> {
    let steps: Vec<&str> = path.strip_prefix('/')?.splitn(6, '/').collect();
    if steps.iter().any(|step| step.is_empty()) {
        return None;
    }
    let absent = |absent| Some((Route::Absent(absent), Methods::Both));
    match steps.as_slice() {
        ["workflows", ..] | ["infer", "workflows"] | ["infer", "workflows", _, _] => absent(Absent::Workflows),
        [_, "workflows", _] | [_, "workflows", _, "describe_interface" | "describe_workload"] => {
            absent(Absent::Workflows)
        }
        ["infer", "lmm", ..] => absent(Absent::Model("a language model")),
        ["infer", "depth-estimation", ..] => absent(Absent::Model("a depth model")),
        ["start", project, version] => Some((Route::Start(format!("{project}/{version}")), Methods::Get)),
        // Their own routes, of which these are no part; no model's name begins so.
        ["infer" | "model" | "inference_pipelines" | "device", ..] => None,
        [project, version] => Some((Route::Legacy(format!("{project}/{version}")), Methods::Both)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Method;

    use super::*;

    #[test]
    fn paths_are_what_roboflows_server_takes_them_for() {
        let route = |path| find(path).map(|(route, _)| route);
        assert_eq!(route("/infer/object_detection"), Some(Route::Infer(Kind::Detection)));
        assert_eq!(route("/parts/1"), Some(Route::Legacy("parts/1".into())));
        assert_eq!(route("/start/parts/1"), Some(Route::Start("parts/1".into())));
        for path in ["/infer/workflows", "/workflows/run", "/my-ws/workflows/my-flow", "/infer/workflows/a/b"] {
            assert_eq!(route(path), Some(Route::Absent(Absent::Workflows)), "{path}");
        }
        for path in [
            "/",
            "//",
            "/a",
            "/a/",
            "//a",
            "/a/b/c",
            "/../etc/passwd",
            "/model/x",
            "/infer/x",
            "",
            "a/b",
            "/a/b/c/d/e/f",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
        assert_eq!(route("/infer/lmm/florence-2/1"), Some(Route::Absent(Absent::Model("a language model"))));
    }

    #[test]
    fn each_path_has_its_methods() {
        let allows = |path, method: &Method| find(path).unwrap().1.allow(method);
        assert!(allows("/model/registry", &Method::HEAD) && !allows("/model/registry", &Method::POST));
        assert!(allows("/model/add", &Method::POST) && !allows("/model/add", &Method::GET));
        assert!(allows("/a/1", &Method::GET) && allows("/a/1", &Method::POST) && !allows("/a/1", &Method::PUT));
    }
}
