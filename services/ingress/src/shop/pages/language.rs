//! Which language a page is in: the one that its address asks for, that was chosen before, or that the
//! browser would rather have.

use actix_web::HttpRequest;
use actix_web::http::header::{ACCEPT_LANGUAGE, COOKIE, HeaderName};

/// What remembers the choice, for a year.
const COOKIE_NAME: &str = "seckill_language";
const PARAMETER: &str = "lang=";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Chinese,
}

impl Language {
    pub(crate) const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// As addresses and the cookie have it.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    pub(crate) fn of(http: &HttpRequest) -> Self {
        let remembered = || {
            values(http, COOKIE)
                .flat_map(|cookies| cookies.split(';'))
                .filter_map(|cookie| cookie.trim().split_once('='))
                .find(|(name, _)| *name == COOKIE_NAME)
                .and_then(|(_, code)| Self::from_code(code))
        };
        Self::asked_for(http)
            .or_else(remembered)
            .unwrap_or_else(|| Self::preferred(values(http, ACCEPT_LANGUAGE)))
    }

    /// By the switch, which is a link to the same page.
    fn asked_for(http: &HttpRequest) -> Option<Self> {
        let mut parameters = http.query_string().split('&');
        Self::from_code(parameters.find_map(|parameter| parameter.strip_prefix(PARAMETER))?)
    }

    /// The cookie of a page whose address asked for a language.
    pub(super) fn choice(http: &HttpRequest) -> Option<String> {
        let code = Self::asked_for(http)?.code();
        Some(format!(
            "{COOKIE_NAME}={code}; Path=/; Max-Age=31536000; SameSite=Lax; HttpOnly"
        ))
    }

    /// The same page in this language.
    pub(super) fn link(self, http: &HttpRequest) -> String {
        let others = http.query_string().split('&');
        let others = others.filter(|other| !other.is_empty() && !other.starts_with(PARAMETER));
        let others = others.map(|other| format!("{other}&")).collect::<String>();
        format!("?{others}{PARAMETER}{}", self.code())
    }

    fn from_code(code: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|language| language.code() == code)
    }

    /// RFC 9110, 12.5.4: the greatest weight counts, of equal ones the first.
    fn preferred<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let mut best = (0.0, Self::English);
        for range in values.flat_map(|value| value.split(',')) {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let primary = tag.trim().split('-').next().unwrap_or_default();
            let language = match primary.to_ascii_lowercase().as_str() {
                "zh" => Self::Chinese,
                "en" | "*" => Self::English,
                _ => continue,
            };
            let weight = match parameters.trim().strip_prefix("q=") {
                Some(weight) => weight.parse().unwrap_or(0.0),
                None => 1.0,
            };
            if weight > best.0 {
                best = (weight, language);
            }
        }
        best.1
    }
}

fn values(http: &HttpRequest, name: HeaderName) -> impl Iterator<Item = &str> {
    let all = http.headers().get_all(name);
    all.filter_map(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn the_language_with_the_greatest_weight_is_spoken_and_english_by_default() {
        for (accepted, code) in [
            ("", "en"),
            ("zh", "zh"),
            ("ZH-Hant-TW", "zh"),
            ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
            ("en-GB, zh-CN;q=0.9", "en"),
            ("en;q=0.3, zh ; q=0.7", "zh"),
            ("fr, zh;q=0.5, *;q=0.1", "zh"),
            ("zh;q=0, en;q=0.1", "en"),
            ("zh;q=0", "en"),
            ("zh;q=much", "en"),
            ("zhuang, de", "en"),
            ("*", "en"),
        ] {
            let request = TestRequest::get().insert_header((ACCEPT_LANGUAGE, accepted));
            let language = Language::of(&request.to_http_request());
            assert_eq!(language.code(), code, "{accepted}");
        }
    }

    #[test]
    fn what_was_chosen_counts_more_than_what_the_browser_would_rather_have() {
        let spoken = |uri: &str, cookie: &str| {
            let request = TestRequest::get()
                .uri(uri)
                .insert_header((ACCEPT_LANGUAGE, "en"))
                .insert_header((COOKIE, cookie));
            let request = request.to_http_request();
            (Language::of(&request).code(), Language::choice(&request))
        };
        assert_eq!(spoken("/", "a=b; seckill_language=zh"), ("zh", None));
        assert_eq!(spoken("/", "seckill_language=fr"), ("en", None));
        let (code, cookie) = spoken("/?lang=zh", "seckill_language=en");
        assert_eq!(code, "zh");
        assert!(cookie.unwrap().starts_with("seckill_language=zh; Path=/;"));
        assert_eq!(spoken("/?lang=fr", "seckill_language=zh"), ("zh", None));
    }

    #[test]
    fn the_switch_keeps_the_rest_of_the_address() {
        let link =
            |uri: &str| Language::Chinese.link(&TestRequest::with_uri(uri).to_http_request());
        assert_eq!(link("/orders"), "?lang=zh");
        assert_eq!(
            link("/sign-in?lang=en&next=%2Forders"),
            "?next=%2Forders&lang=zh"
        );
    }
}
