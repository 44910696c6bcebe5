//! The pages: HTML that is made here, with one script for each page that uses the same API as other
//! clients. Nothing in them comes from another host, and no script or style is inline.

pub(crate) mod assets;
pub(crate) mod language;
mod picture;
mod shop;
pub(crate) mod texts;

use actix_web::http::header::{ACCEPT, ContentType, HeaderValue, LOCATION, SET_COOKIE, VARY};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};
use askama::Template;
use seckill_domain::VoucherId;

use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::resource::resource;

use language::Language;
pub use shop::PaymentPage;
use texts::Texts;

/// `data:` is the empty icon.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// The buyers' pages, on the public listener.
pub fn public_routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/", web::get().to(shop::shelf)))
        .service(get("/sales/{voucher_id}", web::get().to(shop::sale)))
        .service(get("/orders", web::get().to(shop::orders)))
        .service(get("/sign-in", web::get().to(shop::sign_in)))
        .service(get("/assets/{name}", web::get().to(assets::serve)));
}

/// Every other path: a redirect to the page that was meant, or the page *not found*.
pub(crate) async fn not_found(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let problem = Problem::not_found("There is nothing under this path.");
    if http.method() != Method::GET {
        return Err(problem);
    }
    if let Some(meant) = as_it_is_called(http.path()) {
        let mut redirect = HttpResponse::PermanentRedirect();
        return Ok(redirect.insert_header((LOCATION, meant)).finish());
    }
    let accepts = http.headers().get(ACCEPT).map(HeaderValue::as_bytes);
    let wants_page = accepts.is_some_and(|types| types.windows(9).any(|part| part == b"text/html"));
    if wants_page || http.path().starts_with("/sales/") {
        shop::not_served(&http, &problem)
    } else {
        Err(problem)
    }
}

/// The path of a page, from one with a slash too many or too few.
fn as_it_is_called(path: &str) -> Option<String> {
    if path == "/docs" {
        return Some("/docs/".to_owned());
    }
    let page = path.strip_suffix('/')?;
    let sale = page.strip_prefix("/sales/").map(str::parse::<VoucherId>);
    let is_page = ["/orders", "/sign-in", "/ops"].contains(&page) || matches!(sale, Some(Ok(_)));
    is_page.then(|| page.to_owned())
}

pub(crate) fn get(path: &str, route: Route) -> Resource {
    resource(path, [(Method::GET, route)])
}

/// What every page shows.
pub(crate) struct Page {
    now_ms: i64,
    language: Language,
    pub(crate) texts: &'static Texts,
    /// The other language, and the address of this page in it.
    pub(crate) other: &'static Texts,
    pub(crate) switch: String,
}

impl Page {
    pub(crate) fn of(http: &HttpRequest) -> Self {
        let language = Language::of(http);
        let other = match language {
            Language::English => Language::Chinese,
            Language::Chinese => Language::English,
        };
        Self {
            now_ms: timestamp_now().as_micros().div_euclid(1000),
            language,
            texts: language.texts(),
            other: other.texts(),
            switch: other.link(http),
        }
    }

    pub(crate) fn script(&self, name: &str) -> String {
        assets::address(&format!("{name}.{}.js", self.language.code()))
    }
}

/// A page with the headers that every page has.
pub(crate) fn page(
    http: &HttpRequest,
    status: StatusCode,
    template: &impl Template,
) -> Result<HttpResponse, Problem> {
    let html = template.render().map_err(Problem::internal)?;
    let mut response = HttpResponse::build(status);
    for header in HEADERS {
        response.insert_header(header);
    }
    response.insert_header((VARY, "Accept-Language, Cookie"));
    if let Some(choice) = Language::choice(http) {
        response.insert_header((SET_COOKIE, choice));
    }
    Ok(response.content_type(ContentType::html()).body(html))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;

    async fn sign_in(uri: &str, accepted: &str) -> (HttpResponse<()>, String) {
        let request = TestRequest::with_uri(uri).insert_header(("accept-language", accepted));
        let answer = shop::sign_in(request.to_http_request()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body).await.unwrap();
        (head, String::from_utf8(body.to_vec()).unwrap())
    }

    #[actix_web::test]
    async fn a_page_says_its_language_and_what_it_depends_on_and_brings_the_script_in_it() {
        for (accepted, lang, script, other) in [
            ("de, en;q=0.5", "en", "shop.en.js?v=", "中文"),
            ("zh-HK, en;q=0.5", "zh-CN", "shop.zh.js?v=", "English"),
        ] {
            let (head, html) = sign_in("/sign-in", accepted).await;
            assert!(html.contains(&format!("<html lang=\"{lang}\">")), "{html}");
            assert!(html.contains(script) && html.contains(other), "{html}");
            assert_eq!(head.headers().get(VARY).unwrap(), "Accept-Language, Cookie");
            assert!(!head.headers().contains_key(SET_COOKIE));
        }
    }

    #[actix_web::test]
    async fn a_language_that_is_asked_for_is_remembered() {
        let (head, html) = sign_in("/sign-in?lang=zh", "en").await;
        assert!(html.contains("<html lang=\"zh-CN\">"), "{html}");
        let cookie = head.headers().get(SET_COOKIE).unwrap().to_str().unwrap();
        assert!(cookie.contains("seckill_language=zh; ") && cookie.contains("SameSite=Lax"));
    }
}
