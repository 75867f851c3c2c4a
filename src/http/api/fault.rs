//! Why a request is not answered, in the words and with the status of Roboflow's server where it has some.

use std::fmt::Display;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::http::reply::{Answer, json as reply};
use crate::model;
use crate::serving::{self, Kind, Refused};

/// Whoever may come again does so after a second, as Roboflow's server says.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// What is answered instead.
#[derive(Debug)]
pub(super) enum Fault {
    /// `{"message"}` of a handler.
    Told(Told),
    /// FastAPI's 422: what is wrong with the fields of a body or a query.
    Invalid(Vec<Problem>),
}

/// A handler's words.
#[derive(Debug)]
pub(super) struct Told {
    status: StatusCode,
    /// Roboflow's, where its server says something.
    message: String,
    /// Ours, where we know more.
    cause: Option<String>,
    /// It may go well a second later.
    retry: bool,
}

impl Fault {
    pub(super) fn told(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Told(Told { status, message: message.into(), cause: None, retry: false })
    }

    /// An image that cannot be taken; `cause` is what more is known of it.
    pub(super) fn image(why: impl Display, cause: Option<String>) -> Self {
        let message = format!("Could not load input image. Cause: {why}");
        Self::Told(Told { status: StatusCode::BAD_REQUEST, message, cause, retry: false })
    }

    pub(super) fn because(self, why: impl Display) -> Self {
        match self {
            Self::Told(told) => Self::Told(Told { cause: Some(why.to_string()), ..told }),
            invalid @ Self::Invalid(_) => invalid,
        }
    }

    pub(super) fn busy(why: impl Display) -> Self {
        let message = "Model is temporarily not ready - retry request.".to_owned();
        let cause = Some(why.to_string());
        Self::Told(Told { status: StatusCode::SERVICE_UNAVAILABLE, message, cause, retry: true })
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        match self {
            Self::Told(told) => Self::Told(Told { status, ..told }),
            invalid @ Self::Invalid(_) => invalid,
        }
    }

    pub(super) fn internal(why: impl Display) -> Self {
        Self::told(StatusCode::INTERNAL_SERVER_ERROR, "Internal error.").because(why)
    }

    pub(super) fn into_answer(self) -> Answer {
        match self {
            Self::Told(told) => {
                let mut body = json!({"message": told.message});
                if let Some(cause) = told.cause {
                    body["cause"] = cause.into();
                }
                let mut answer = reply(told.status, body.to_string());
                if told.retry {
                    answer.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
                }
                answer
            }
            Self::Invalid(problems) => reply(StatusCode::UNPROCESSABLE_ENTITY, json!({"detail": problems}).to_string()),
        }
    }
}

impl From<serving::Error> for Fault {
    fn from(error: serving::Error) -> Self {
        match error.kind() {
            Kind::InvalidId => Self::told(StatusCode::BAD_REQUEST, "Invalid Model ID sent in request.").because(error),
            // Roboflow's server says that it could not connect to its API, which nobody can act upon.
            Kind::Missing => Self::told(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Kind::Broken => Self::told(StatusCode::INTERNAL_SERVER_ERROR, "Model package is broken.").because(error),
            Kind::TooLarge => Self::told(StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
            Kind::Busy => Self::busy(error),
            Kind::Usage | Kind::Failed => {
                Self::told(StatusCode::INTERNAL_SERVER_ERROR, format!("Model loading failed: {error}"))
            }
        }
    }
}

impl From<model::Error> for Fault {
    fn from(error: model::Error) -> Self {
        match error {
            model::Error::MaskArgument => Self::told(StatusCode::BAD_REQUEST, error.to_string()),
            model::Error::Frame(error) => Self::image(error, None),
            error => Self::internal(error),
        }
    }
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::busy("too many requests wait for their turn"),
            Refused::Died => Self::internal("a defect ended the work on this request"),
        }
    }
}

/// One fault of a field, as pydantic describes it. What the client sent is not sent back: it may be an image.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub loc: Vec<Place>,
    pub msg: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
}

impl Problem {
    pub(super) fn new(kind: &'static str, loc: Vec<Place>, msg: impl Into<String>) -> Self {
        Self { kind, loc, msg: msg.into(), ctx: None }
    }

    pub(super) fn missing(loc: Vec<Place>) -> Self {
        Self::new("missing", loc, "Field required")
    }
}

/// A step of the way to a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Name(&'static str),
    Index(usize),
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Name(name) => serializer.serialize_str(name),
            Self::Index(index) => index.serialize(serializer),
        }
    }
}
