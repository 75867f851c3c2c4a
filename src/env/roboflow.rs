//! Roboflow's environment variables that ask for something here that this program does in another way, or not at all.
//!
//! A device that was set up by them must not silently do otherwise: a value that changes nothing is accepted, any other is
//! refused by name. Variables of engines and tasks that are not here at all are not read.

use super::OFFLINE_MODE;

/// What is said of a variable, and which of its values change nothing here, in lower case.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub name: &'static str,
    harmless: &'static [&'static str],
    pub why: &'static str,
}

const TRUE: &[&str] = &["true"];
const FALSE: &[&str] = &["false"];
const NEVER: &[&str] = &[];

const NOTHING_SENT: &str = "nothing is sent to anybody that the configuration does not name";
const SERVERLESS: &str = "it is a setting of Roboflow's own clouds";

/// In the order of SPEC's Appendix C.
pub const REFUSALS: &[Refusal] = &[
    refusal("ALLOW_URL_INPUT", FALSE, "pictures are never fetched from addresses"),
    refusal("ROBOFLOW_API_EXTRA_HEADERS", NEVER, "no other headers are sent"),
    refusal("CLASS_AGNOSTIC_NMS", NEVER, "set inference.class_agnostic_nms in the configuration, or in a request"),
    refusal("CONFIDENCE", NEVER, "set inference.confidence in the configuration, or in a request"),
    refusal("IOU_THRESHOLD", NEVER, "set inference.iou_threshold in the configuration, or in a request"),
    refusal("MAX_CANDIDATES", NEVER, "every candidate is looked at"),
    refusal("MAX_DETECTIONS", NEVER, "set inference.max_detections in the configuration, or in a request"),
    refusal("USE_INFERENCE_MODELS", NEVER, "the cache's layout decides, or semantics in the configuration"),
    refusal("DISABLE_PREPROC_AUTO_ORIENT", FALSE, "set inference.disable_preproc_auto_orient in the configuration"),
    refusal("DISABLE_PREPROC_CONTRAST", FALSE, "set inference.disable_preproc_contrast in the configuration"),
    refusal("DISABLE_PREPROC_GRAYSCALE", FALSE, "set inference.disable_preproc_grayscale in the configuration"),
    refusal("DISABLE_PREPROC_STATIC_CROP", FALSE, "set inference.disable_preproc_static_crop in the configuration"),
    refusal("VLLM_PROXY_ENABLED", FALSE, SERVERLESS),
    refusal("ENABLE_HTTPS", FALSE, "set http.tls in the configuration"),
    refusal("SSL_CERTFILE", NEVER, "set http.tls.certificate in the configuration"),
    refusal("SSL_KEYFILE", NEVER, "set http.tls.key in the configuration"),
    refusal("LAMBDA", FALSE, SERVERLESS),
    refusal("GCP_SERVERLESS", FALSE, SERVERLESS),
    refusal("LICENSE_SERVER", NEVER, "weights are fetched from Roboflow, or from ROBOFLOW_API_HOST"),
    refusal("SECURE_GATEWAY", NEVER, "weights are fetched from Roboflow, or from ROBOFLOW_API_HOST"),
    refusal("MAX_ACTIVE_MODELS", NEVER, "set serving.memory_mb in the configuration: models go by what they weigh"),
    refusal(
        "MODELS_CACHE_AUTH_ENABLED",
        FALSE,
        "set http.access in the configuration: no key is checked with Roboflow",
    ),
    refusal("OTEL_TRACING_ENABLED", FALSE, NOTHING_SENT),
    refusal("METRICS_ENABLED", FALSE, NOTHING_SENT),
    refusal("ACTIVE_LEARNING_ENABLED", FALSE, NOTHING_SENT),
    refusal("MODEL_ID", NEVER, "set model in the configuration, or --model"),
    refusal("NOTEBOOK_ENABLED", FALSE, "there are no notebooks here"),
    refusal("ENABLE_BUILDER", FALSE, "there is no builder of workflows here"),
    refusal("ONNXRUNTIME_EXECUTION_PROVIDERS", NEVER, "set engine.name or engine.forbid in the configuration"),
    refusal("REQUIRED_ONNX_PROVIDERS", NEVER, "set engine.name in the configuration"),
    refusal("REDIS_HOST", NEVER, "nothing is shared with other servers"),
    refusal("TENSORRT_CACHE_PATH", NEVER, "engines are kept in the state directory: set FIRSTLIGHT_STATE_DIR"),
    refusal("MODEL_VALIDATION_DISABLED", FALSE, "no engine is trusted that was not compared with the referee"),
    refusal("DEDICATED_DEPLOYMENT_WORKSPACE_URL", NEVER, SERVERLESS),
    refusal("WORKSPACES_WHITELISTED_FOR_LOCAL_DEPLOYMENT", NEVER, SERVERLESS),
    refusal("PRELOAD_MODELS", NEVER, "set serving.preload in the configuration"),
    refusal("PINNED_MODELS", NEVER, "set serving.pinned in the configuration"),
    refusal("ROBOFLOW_API_VERIFY_SSL", TRUE, "certificates are always verified: name other roots with SSL_CERT_FILE"),
    refusal("DISK_CACHE_CLEANUP", FALSE, "weights are never deleted but by `firstlight cache rm`"),
    refusal("ROBOFLOW_ENVIRONMENT", &["prod"], "name the server with ROBOFLOW_API_HOST"),
    refusal("ROBOFLOW_REGION", &["us"], "name the server with ROBOFLOW_API_HOST"),
    refusal("OFFLINE_MODE_WARM_UP", FALSE, "`firstlight cache pull` writes the record of the registry by itself"),
];

const fn refusal(name: &'static str, harmless: &'static [&'static str], why: &'static str) -> Refusal {
    Refusal { name, harmless, why }
}

/// Whether Roboflow's `OFFLINE_MODE` is set. Nothing here goes online but `cache pull`, which then refuses.
///
/// # Errors
/// It is neither `true` nor `false`, as in Roboflow's programs.
pub fn offline() -> Result<bool, String> {
    let value = OFFLINE_MODE.get().unwrap_or_else(|| "false".into());
    match value.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("OFFLINE_MODE={value}: expected true or false")),
    }
}

/// Looks through the environment.
///
/// # Errors
/// What is set and cannot be honoured, each by name with the reason.
pub fn check() -> Result<(), String> {
    check_with(|name| std::env::var(name).ok())?;
    offline().map(drop)
}

fn check_with(get: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let refused = |refusal: &Refusal| {
        let value = get(refusal.name).filter(|value| !value.is_empty())?;
        let harmless = refusal.harmless.contains(&value.to_lowercase().as_str());
        // The value of another may be a secret.
        (!harmless).then(|| format!("{} is set, and means nothing here: {}", refusal.name, refusal.why))
    };
    let refused: Vec<String> = REFUSALS.iter().filter_map(refused).collect();
    if refused.is_empty() { Ok(()) } else { Err(format!("{}; unset it", refused.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_nothing_is_accepted_and_the_rest_is_refused_by_name() {
        let with = |name: &'static str, value: &'static str| {
            check_with(move |asked| (asked == name).then(|| value.to_owned()))
        };
        for (name, value) in [
            ("METRICS_ENABLED", "False"),
            ("ROBOFLOW_REGION", "US"),
            ("LAMBDA", "false"),
            ("CONFIDENCE", ""),
            ("HOME", "x"),
        ] {
            assert_eq!(with(name, value), Ok(()), "{name}={value}");
        }
        for (name, value) in [("METRICS_ENABLED", "True"), ("CONFIDENCE", "0.4"), ("SECURE_GATEWAY", "gw.example")] {
            let refused = with(name, value).unwrap_err();
            assert!(refused.contains(name) && !refused.contains("gw.example"), "{refused}");
        }
    }

    #[test]
    fn every_variable_is_one_of_roboflows_and_there_once() {
        let mut names: Vec<&str> = REFUSALS.iter().map(|refusal| refusal.name).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(super::super::VARIABLES.iter().all(|variable| !names.contains(&variable.name)));
    }
}
