//! Which form of a page a client wants (PEP 691).

use axum::http::{HeaderMap, header};

use super::answer::Refusal;

/// A form of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As browsers know it.
    Html,
    /// The same, under the name that PEP 691 gives it.
    SimpleHtml,
    /// JSON.
    Json,
}

impl Form {
    /// What is preferred of equals comes first: who takes anything is a browser, or curl.
    const ALL: [Self; 3] = [Self::Html, Self::SimpleHtml, Self::Json];

    /// The content type.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::SimpleHtml => "application/vnd.pypi.simple.v1+html",
            Self::Json => "application/vnd.pypi.simple.v1+json",
        }
    }

    /// How well a range of media types fits: not, by any, by its first part, by name.
    fn fits(self, range: &str) -> u8 {
        let own = self.kind().split(';').next().unwrap_or_default();
        let latest = own.replace(".v1+", ".latest+");
        match range {
            "*/*" => 1,
            "text/*" | "application/*" if own.starts_with(range.trim_end_matches('*')) => 2,
            range if range == own || range == latest => 3,
            _ => 0,
        }
    }

    /// Whether a client takes HTML, be it for want of something better.
    pub(super) fn takes_html(headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let asked: Vec<_> = lines.flat_map(|line| line.split(',')).filter_map(range).collect();
        asked.is_empty() || asked.iter().any(|(range, q)| *q > 0.0 && Self::Html.fits(range) > 0)
    }

    /// The form that these headers ask for.
    ///
    /// # Errors
    /// When there is none that the client takes.
    pub(super) fn wanted(headers: &HeaderMap) -> Result<Self, Refusal> {
        let lines = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
        let accept = lines.collect::<Vec<_>>().join(",");
        let asked: Vec<(String, f32)> = accept.split(',').filter_map(range).collect();
        if asked.is_empty() {
            return Ok(Self::Html);
        }
        let quality = |form: Self| {
            let fitting = asked.iter().map(|(range, q)| (form.fits(range), *q));
            fitting.filter(|(fit, _)| *fit > 0).max_by_key(|(fit, _)| *fit).map_or(0.0, |(_, q)| q)
        };
        let best = Self::ALL.into_iter().rev().max_by(|a, b| quality(*a).total_cmp(&quality(*b)));
        best.filter(|form| quality(*form) > 0.0).ok_or_else(|| {
            let kinds = Self::ALL.map(Self::kind).join(", ");
            Refusal::Unacceptable(format!("none of {accept:?} is served here; these are: {kinds}"))
        })
    }
}

/// A media range, and how much it is wanted.
fn range(text: &str) -> Option<(String, f32)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?.to_ascii_lowercase();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    Some((range, quality.and_then(|q| q.parse().ok()).unwrap_or(1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_form_that_it_wants_most() {
        let pip = "application/vnd.pypi.simple.v1+json, \
                   application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
        for (accept, form) in [
            (pip, Some(Form::Json)),
            ("", Some(Form::Html)),
            ("*/*", Some(Form::Html)),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Some(Form::Html)),
            ("application/vnd.pypi.simple.v1+json;q=0.2, text/html", Some(Form::Html)),
            ("application/vnd.pypi.simple.latest+json", Some(Form::Json)),
            ("application/vnd.pypi.simple.v1+html", Some(Form::SimpleHtml)),
            ("application/vnd.pypi.simple.v1+json;q=0, */*", Some(Form::Html)),
            ("application/vnd.pypi.simple.v2+json", None),
            ("text/html;q=0", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(Form::wanted(&headers).ok(), form, "{accept}");
        }
    }
}
