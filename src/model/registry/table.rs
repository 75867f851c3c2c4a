//! Every pair of task and type that Roboflow's engines know (SPEC Appendix B), some of our own, and what each is here.
//!
//! Types are written in groups: `yolov8{,n,s}` is `yolov8`, `yolov8n` and `yolov8s`.

use Engines::{Both, Default, Manifest, Ours};
use Family::{
    DeepLab, DinoV3, ResNet, RfDetr, RtDetr, Tflite, Vit, Yolo26, YoloLite, YoloNas, YoloV5, YoloV7, YoloV8, YoloV10,
    YoloX,
};
use Runs::{As, Not};

use super::{Engines, Family, Group, Runs};

const LATER: Runs = Not("its decoder is not written yet");
const PYTORCH: Runs = Not("Roboflow has it as PyTorch weights only, and this binary runs ONNX");
const WORDS: Runs = Not("it answers in words: it needs a language model beside the image network");
const TEXT: Runs = Not("it needs a text encoder beside the image network");
const READER: Runs = Not("it reads text: one network finds the lines and another reads them");
const PROMPT: Runs = Not("it segments what a user points at, prompt by prompt");
const CLIP: Runs = Not("it looks at clips of video, not at single frames");
const STAGES: Runs = Not("it is two networks, the second run on what the first found");
const CODE: Runs = Not("a package of this kind brings its own Python code");
const STUB: Runs = Not("a stand-in without a network, for Roboflow's own tests");

const fn group(task: &'static str, types: &'static str, engines: Engines, runs: Runs) -> Group {
    Group { task, types, engines, runs }
}

/// Roboflow's registry, then ours, by task.
pub const GROUPS: &[Group] = &[
    group("object-detection", "yolov5{,v2s,v6n,v6s,v6m,v6l,v6x}", Both, As(YoloV5)),
    group("object-detection", "yolov8{,n,s,m,l,x}", Both, As(YoloV8)),
    group("object-detection", "yolov9", Both, As(YoloV8)),
    group("object-detection", "yolov10{,n,s,m,b,l,x}", Both, As(YoloV10)),
    group("object-detection", "yolov11{,n,s,m,b,l,x}", Both, As(YoloV8)),
    group("object-detection", "yolov12{,n,s,m,l,x}", Both, As(YoloV8)),
    group("object-detection", "yolo26{,n,s,m,b,l,x}", Both, As(Yolo26)),
    group("object-detection", "yolonas yolo_nas_{s,m,l}", Both, As(YoloNas)),
    group("object-detection", "rfdetr{,-nano,-small,-base,-medium,-large,-xlarge,-2xlarge,-nas}", Both, As(RfDetr)),
    group("object-detection", "yolox{,-nano,-tiny,-s,-m,-l,-x}", Ours, As(YoloX)),
    group("object-detection", "rtdetr{,-r18,-r34,-r50,-r101,-l,-x}", Ours, As(RtDetr)),
    group(
        "object-detection",
        "yololite{,-n,-s,-m,-l,-xl,-edge-n,-edge-s,-edge-m,-edge-l,-edge-xl}",
        Default,
        As(YoloLite),
    ),
    group("object-detection", "tflite", Manifest, As(Tflite)),
    group("object-detection", "grounding-dino", Both, TEXT),
    group("object-detection", "florence-2-{base,large}{,-peft}", Both, WORDS),
    group("object-detection", "paligemma-3b-pt-{224,448,896}{,-peft}", Both, WORDS),
    group("object-detection", "inference-models-local", Default, CODE),
    group("object-detection", "stub", Both, STUB),
    group("instance-segmentation", "yolov5{,-seg,n-seg,s-seg,m-seg,l-seg,x-seg}", Both, As(YoloV5)),
    group("instance-segmentation", "yolov7{,-seg,s-seg}", Both, As(YoloV7)),
    group("instance-segmentation", "yolov8{,n,s,m,l,x}{,-seg}", Both, As(YoloV8)),
    group("instance-segmentation", "yolov11{n,s,m,l,x}{,-seg}", Both, As(YoloV8)),
    group("instance-segmentation", "yolov11", Default, As(YoloV8)),
    group("instance-segmentation", "yolo26 yolo26{n,s,m,l,x}{,-seg}", Both, As(Yolo26)),
    group(
        "instance-segmentation",
        "rfdetr rfdetr-seg-{nano,small,medium,large,xlarge,xxlarge,2xlarge,preview} rfdetr-nas-seg",
        Both,
        As(RfDetr),
    ),
    group("instance-segmentation", "yolact", Both, LATER),
    group("instance-segmentation", "segment-anything-2-rt", Default, PYTORCH),
    group("instance-segmentation", "florence-2-{base,large}{,-peft}", Both, WORDS),
    group("instance-segmentation", "paligemma-3b-pt-{224,448,896}{,-peft}", Both, WORDS),
    group("instance-segmentation", "inference-models-local", Default, CODE),
    group("instance-segmentation", "stub", Both, STUB),
    group("interactive-instance-segmentation", "sam2", Default, PROMPT),
    group("keypoint-detection", "yolov8 yolov8{n,s,m,l,x}{,-pose}", Both, As(YoloV8)),
    group("keypoint-detection", "yolov11{n,s,m,l,x}{,-pose}", Both, As(YoloV8)),
    group("keypoint-detection", "yolov11", Default, As(YoloV8)),
    group("keypoint-detection", "yolo26 yolo26{n,s,m,l,x}{,-pose}", Both, As(Yolo26)),
    group("keypoint-detection", "rfdetr rfdetr-keypoint-preview", Default, As(RfDetr)),
    group("keypoint-detection", "tflite", Manifest, As(Tflite)),
    group("keypoint-detection", "rfdetr-keypoint-{stage2,two-stage}", Default, STAGES),
    group("keypoint-detection", "inference-models-local", Default, CODE),
    group("keypoint-detection", "stub", Both, STUB),
    group("classification", "vit", Both, As(Vit)),
    group("classification", "resnet{,18,34,50,101}", Both, As(ResNet)),
    group("classification", "yolov8{,n,s,m,l,x}", Both, As(YoloV8)),
    group("classification", "yolov11", Default, As(YoloV8)),
    group("classification", "dinov3{,_probe}", Both, As(DinoV3)),
    group("classification", "tflite", Manifest, As(Tflite)),
    group("classification", "foundad patchcore", Default, PYTORCH),
    group("classification", "inference-models-local", Default, CODE),
    group("classification", "stub", Both, STUB),
    group("multi-label-classification", "vit", Default, As(Vit)),
    group("multi-label-classification", "resnet", Default, As(ResNet)),
    group("multi-label-classification", "dinov3_probe", Default, As(DinoV3)),
    group("semantic-segmentation", "deeplabv3plus", Both, As(DeepLab)),
    group("semantic-segmentation", "deep-lab-v3-plus", Default, As(DeepLab)),
    group("semantic-segmentation", "yolo26{,n-sem,s-sem,m-sem,l-sem,x-sem}", Default, As(Yolo26)),
    group(
        "semantic-segmentation",
        "rfdetr rfdetr-sem-{nano,small,medium,large,xlarge,2xlarge} rfdetr-nas-sem",
        Default,
        As(RfDetr),
    ),
    group("semantic-segmentation", "inference-models-local", Default, CODE),
    group("raw", "tflite", Manifest, As(Tflite)),
    group("depth-estimation", "yolo26{,n-depth,s-depth,m-depth,l-depth,x-depth}", Default, LATER),
    group("depth-estimation", "depth-anything-{v2,v3}", Both, PYTORCH),
    group("open-vocabulary-object-detection", "grounding-dino", Default, TEXT),
    group("embed", "clip", Both, TEXT),
    group("embed", "perception_encoder", Both, TEXT),
    group("embed", "sam2", Both, PROMPT),
    group("embedding", "clip perception-encoder", Default, TEXT),
    group("ocr", "doctr easy_ocr trocr pp_ocr", Both, READER),
    group("structured-ocr", "doctr easy-ocr", Default, READER),
    group("text-only-ocr", "tr-ocr", Default, READER),
    group("gaze", "l2cs", Both, STAGES),
    group("gaze-detection", "l2cs-net", Default, STAGES),
    group("action-recognition", "cosmos-3-edge cosmos3-edge vjepa2_1 vjepa2-1-vitb-384", Default, CLIP),
    group("lmm", "moondream2 smolvlm-2.2b-instruct", Both, WORDS),
    group("lmm", "qwen3_5-{0.8b,2b}{,-peft} qwen3_5-4b qwen3_8-27b", Default, WORDS),
    group("text-image-pairs", "florence-2-{base,large}{,-peft}", Both, WORDS),
    group("text-image-pairs", "paligemma2-3b-pt-{224,448,896}{,-peft}", Both, WORDS),
    group("text-image-pairs", "qwen25-vl-7b{,-peft} qwen3vl-2b-instruct{,-peft}", Both, WORDS),
    group("text-image-pairs", "smolvlm-256m-peft smolvlm2-peft", Both, WORDS),
    group("text-image-pairs", "qwen3_5-{0.8b,2b}{,-peft} qwen3_5-4b qwen3_8-27b", Default, WORDS),
    group("text-image-pairs", "cosmos-3-edge cosmos3-edge", Default, WORDS),
    group("vlm", "florence-2 glm-ocr moondream2 paligemma paligemma-2 smolvlm-v2", Default, WORDS),
    group("vlm", "qwen25vl qwen3vl qwen3_5 qwen_3_5 qwen3_8", Default, WORDS),
    group("vlm", "cosmos-3-edge cosmos3-edge", Default, WORDS),
];

/// Ids, or first chunks of ids, that name a foundation model and no package of the user's (`GENERIC_MODELS` and the
/// core families, SPEC §1.2): id, task, type, what it is.
pub const FOUNDATION: &[(&str, &str, &str, Runs)] = &[
    ("clip", "embed", "clip", TEXT),
    ("depth-anything-v2", "depth-estimation", "depth-anything-v2", PYTORCH),
    ("depth-anything-v3", "depth-estimation", "depth-anything-v3", PYTORCH),
    ("doctr", "ocr", "doctr", READER),
    ("doctr_det", "ocr", "doctr", READER),
    ("doctr_rec", "ocr", "doctr", READER),
    ("easy_ocr", "ocr", "easy_ocr", READER),
    ("gaze", "gaze", "l2cs", STAGES),
    ("grounding_dino", "object-detection", "grounding-dino", TEXT),
    ("moondream2", "lmm", "moondream2", WORDS),
    ("nvidia/cosmos-3-edge-action-recognition", "action-recognition", "cosmos-3-edge", CLIP),
    ("owlv2", "object-detection", "owlv2", TEXT),
    ("paligemma", "llm", "paligemma", WORDS),
    ("perception_encoder", "embed", "perception_encoder", TEXT),
    ("pp_ocr", "ocr", "pp_ocr", READER),
    ("qwen3_5-0.8b", "lmm", "qwen3_5-0.8b", WORDS),
    ("qwen3_5-2b", "lmm", "qwen3_5-2b", WORDS),
    ("qwen3_5-4b", "lmm", "qwen3_5-4b", WORDS),
    ("qwen3_8-27b", "lmm", "qwen3_8-27b", WORDS),
    ("sam", "embed", "sam", PROMPT),
    ("sam2", "embed", "sam2", PROMPT),
    ("sam3", "embed", "sam3", PROMPT),
    ("sam3/sam3_interactive", "interactive-segmentation", "sam3", PROMPT),
    ("sam3-3d-objects", "3d-reconstruction", "sam3-3d-objects", PYTORCH),
    ("smolvlm2", "lmm", "smolvlm-2.2b-instruct", WORDS),
    ("trocr", "ocr", "trocr", READER),
    ("yolo_world", "object-detection", "yolo-world", TEXT),
];
