//! A webhook: each event is the body of a POST, in one of the formats or from a template. It is signed as in Standard
//! Webhooks (<https://www.standardwebhooks.com>); libraries of many languages verify this.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::{HeaderMap, Uri, header, http::HeaderValue};
use jiff::Timestamp;
use sha2::Sha256;

use super::{
    super::forms::{Context, Format, Formatter},
    caller::Caller,
    worker::{Deliver, Failure},
};
use crate::detect::findings::Event;

/// The settings of this sink only.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The URL.
    pub url: Uri,
    /// The format of the body, if there is no template.
    pub format: Format,
    /// A template of the body.
    pub template: Option<Template>,
    /// Its media type.
    pub content_type: HeaderValue,
    /// More headers.
    pub headers: HeaderMap,
    /// The key that signs bodies.
    pub secret: Option<Secret>,
}

/// A key that is never shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Parses a file's content: base64 after `whsec_`, as Standard Webhooks writes it, or the key itself.
    ///
    /// # Errors
    /// It is missing, or is not valid base64.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = match text.strip_prefix("whsec_") {
            Some(encoded) => {
                BASE64_STANDARD.decode(encoded).map_err(|error| format!("after whsec_: {error}"))?
            }
            None => text.as_bytes().to_owned(),
        };
        if key.is_empty() { Err("it is empty".to_owned()) } else { Ok(Self(key)) }
    }

    /// The signature of a message, by the section "Signature scheme" of Standard Webhooks.
    fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> Result<String, Failure> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mut mac = mac.map_err(|error| Failure::Refused(format!("the secret: {error}")))?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Ok(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    environment: minijinja::Environment<'static>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

/// Steps allowed to render one event: far more than any body needs, and still milliseconds.
const FUEL: u64 = 100_000;

impl Template {
    /// Parses this text. In a JSON template each value is written as JSON, whatever it contains; elsewhere as it is.
    ///
    /// # Errors
    /// The error, with its line.
    pub fn parse(text: String, json: bool) -> Result<Self, String> {
        let mut environment = minijinja::Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(move |_| {
            if json { minijinja::AutoEscape::Json } else { minijinja::AutoEscape::None }
        });
        let added = environment.add_template_owned(NAME, text.clone());
        added.map_err(|error| error.to_string())?;
        Ok(Self { text, environment })
    }

    fn render(&self, fields: &serde_json::Value) -> Result<String, minijinja::Error> {
        self.environment.get_template(NAME)?.render(minijinja::value::Serde(fields))
    }
}

const NAME: &str = "template";

/// The sink.
pub(super) struct Webhook {
    caller: Caller,
    formatter: Formatter,
    template: Option<Template>,
    content_type: HeaderValue,
    secret: Option<Secret>,
}

impl Webhook {
    /// A sink with these settings, on this host.
    pub(super) fn new(settings: &Settings, context: &Context) -> Self {
        let Settings { url, format, template, content_type, headers, secret } = settings.clone();
        // Templates get the fields of our own JSON format.
        let format = if template.is_some() { Format::Json } else { format };
        let formatter = Formatter::plain(format, context.clone());
        let caller = Caller::new(url.to_string(), headers);
        Self { caller, formatter, template, content_type, secret }
    }

    fn body(&self, event: &Event) -> Result<String, Failure> {
        let line = self.formatter.line(event)?;
        let Some(template) = &self.template else {
            return Ok(line);
        };
        let fields = serde_json::from_str(&line)?;
        // The error names the line of the template.
        template.render(&fields).map_err(|error| Failure::Refused(format!("the template: {error}")))
    }

    /// The headers of Standard Webhooks. The id is the same in each attempt, so that a receiver can recognize
    /// repetitions.
    fn headers(&self, event: &Event, body: &str) -> Result<HeaderMap, Failure> {
        let id = format!("{}.{}.{}", event.finding.id, event.kind.label(), event.time.as_millisecond());
        let seconds = Timestamp::now().as_second();
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        let mut put = |name, value: &str| {
            let value = HeaderValue::from_str(value).map_err(|error| Failure::Refused(error.to_string()))?;
            headers.insert(name, value);
            Ok::<_, Failure>(())
        };
        put("webhook-id", &id)?;
        put("webhook-timestamp", &seconds.to_string())?;
        if let Some(secret) = &self.secret {
            put("webhook-signature", &secret.sign(&id, seconds, body.as_bytes())?)?;
        }
        Ok(headers)
    }
}

impl Deliver for Webhook {
    async fn deliver(&mut self, event: &Event) -> Result<(), Failure> {
        let body = self.body(event)?;
        let headers = self.headers(event, &body)?;
        self.caller.post(headers, Bytes::from(body)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::sinks::{caller::JSON, testing::event};

    #[test]
    fn a_signature_is_that_of_the_examples_of_standard_webhooks() {
        // From the test vectors of its reference libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned()));
    }

    #[test]
    fn a_secret_is_in_no_log() {
        let secret = Secret::parse("hunter2").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(Secret::parse("whsec_").is_err() && Secret::parse("whsec_%").is_err());
    }

    #[test]
    fn what_is_in_a_json_template_stays_json() {
        let template =
            Template::parse(r#"{"text": {{ reason }}, "n": {{ counts.probes }}}"#.to_owned(), true).unwrap();
        let fields = serde_json::json!({ "reason": "\"},{\n", "counts": { "probes": 7 } });
        let body: serde_json::Value = serde_json::from_str(&template.render(&fields).unwrap()).unwrap();
        assert_eq!(body, serde_json::json!({ "text": "\"},{\n", "n": 7 }));
    }

    #[test]
    fn a_template_that_is_wrong_is_refused_with_its_line_and_one_without_end_is_stopped() {
        let wrong = Template::parse("{\n{{ reason }".to_owned(), true).expect_err("it is wrong");
        assert!(wrong.contains(":2"), "{wrong}");
        let text = "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}";
        let endless = Template::parse(text.to_owned(), false).unwrap();
        assert!(endless.render(&serde_json::json!({})).is_err());
    }

    #[test]
    fn the_id_of_a_message_is_that_of_the_event() {
        let settings = Settings {
            url: Uri::from_static("http://127.0.0.1:9/"),
            format: Format::Json,
            template: None,
            content_type: JSON,
            headers: HeaderMap::new(),
            secret: None,
        };
        let webhook = Webhook::new(&settings, &Context { ipv6_prefix: 64, host: "edge1".to_owned() });
        let id = |id| webhook.headers(&event(id), "").unwrap()["webhook-id"].clone();
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
    }
}
