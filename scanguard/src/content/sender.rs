//! Whether a page made the client send a request, as far as the request shows it.
//!
//! Any page can make the browser of its visitor ask any host for anything, by a picture, a frame, a script or a form.
//! The browser mostly says so.

use super::target::{absolute, host_of};

/// The sender of a request.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Sender {
    /// Nothing shows a page.
    #[default]
    Client,
    /// A page of this very host, according to the request.
    OwnPage,
    /// A page of another host, or of an unknown one.
    Page,
}

/// How many there are.
pub(super) const SENDERS: usize = 3;

/// What a browser asks for on behalf of a page (Sec-Fetch-Dest). For what its user typed, it says `document`.
const PARTS: [&str; 9] = ["image", "script", "style", "iframe", "frame", "object", "embed", "video", "audio"];
/// How the Accept header of such parts begins.
const PARTS_ACCEPT: [&str; 4] = ["image/", "video/", "audio/", "text/css"];

/// The headers that tell it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'h> {
    /// Referer.
    pub referer: Option<&'h str>,
    /// Origin.
    pub origin: Option<&'h str>,
    /// Sec-Fetch-Site.
    pub site: Option<&'h str>,
    /// Sec-Fetch-Dest.
    pub destination: Option<&'h str>,
    /// Accept.
    pub accept: Option<&'h str>,
    /// Whether there may be more headers that were not seen.
    pub is_cut: bool,
}

impl Shown<'_> {
    /// The sender of a request to this host.
    pub(super) fn sender(&self, host: Option<&str>) -> Sender {
        let page = |url: &str| {
            let of = absolute(url).and_then(|(authority, _)| host_of(authority));
            if of.is_some() && of.as_deref() == host { Sender::OwnPage } else { Sender::Page }
        };
        match self.site {
            Some("same-origin") => return Sender::OwnPage,
            Some("cross-site" | "same-site") => return Sender::Page,
            _ => {}
        }
        let named = [self.origin, self.referer].into_iter().flatten().filter(|url| !url.is_empty());
        if let Some(sender) = named.map(page).max() {
            return sender;
        }
        let is_part = self.destination.is_some_and(|part| PARTS.contains(&part))
            || self.accept.is_some_and(|accept| PARTS_ACCEPT.iter().any(|part| accept.starts_with(part)));
        if is_part || self.is_cut { Sender::Page } else { Sender::Client }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_sent_is_told_from_what_a_client_asks_for_by_itself() {
        let none = Shown::default();
        let rows = [
            ("nothing", none, Sender::Client),
            ("a list tool", Shown { accept: Some("*/*"), ..none }, Sender::Client),
            (
                "typed",
                Shown {
                    site: Some("none"),
                    destination: Some("document"),
                    accept: Some("text/html"),
                    ..none
                },
                Sender::Client,
            ),
            (
                "a link on its own page",
                Shown { referer: Some("https://Example.org:8443/a"), ..none },
                Sender::OwnPage,
            ),
            (
                "a form of its own page",
                Shown { origin: Some("https://example.org"), referer: Some("https://example.org/a"), ..none },
                Sender::OwnPage,
            ),
            (
                "a link on another page",
                Shown { referer: Some("https://example.net/a?b=https://example.org"), ..none },
                Sender::Page,
            ),
            ("another subdomain", Shown { referer: Some("https://www.example.org/"), ..none }, Sender::Page),
            ("an app", Shown { referer: Some("android-app://com.example/"), ..none }, Sender::Page),
            ("no-cors, without a referer", Shown { origin: Some("null"), ..none }, Sender::Page),
            ("no-cors, with an origin", Shown { origin: Some("https://evil.example"), ..none }, Sender::Page),
            (
                "another page that names this one",
                Shown { site: Some("cross-site"), referer: Some("https://example.org/"), ..none },
                Sender::Page,
            ),
            (
                "a picture without a referer",
                Shown { accept: Some("image/avif,image/webp,*/*;q=0.8"), ..none },
                Sender::Page,
            ),
            (
                "a frame without a referer",
                Shown { destination: Some("iframe"), accept: Some("text/html"), ..none },
                Sender::Page,
            ),
            ("a head that goes on", Shown { is_cut: true, ..none }, Sender::Page),
        ];
        for (name, shown, expected) in rows {
            assert_eq!(shown.sender(Some("example.org")), expected, "{name}");
        }
        let unknown = Shown { referer: Some("https://example.org/"), ..none };
        assert_eq!(unknown.sender(None), Sender::Page, "logs without a host");
    }
}
