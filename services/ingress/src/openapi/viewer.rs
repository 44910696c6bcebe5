//! Swagger UI, served from this program. It loads nothing from other hosts.

use std::sync::{Arc, LazyLock};

use actix_web::{HttpRequest, HttpResponse};
use utoipa_swagger_ui::Config;

use crate::http::problem::Problem;

/// It has its own policy because it uses inline styles. Scripts and connections are allowed only from this host.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// It shows this service's document, and uses no validator on another host.
static CONFIG: LazyLock<Arc<Config<'static>>> =
    LazyLock::new(|| Arc::new(Config::from("/openapi.json").validator_url("none")));

/// `GET /docs/`.
pub(super) async fn page() -> Result<HttpResponse, Problem> {
    serve("index.html")
}

/// `GET /docs/{name}`.
pub(super) async fn file(http: HttpRequest) -> Result<HttpResponse, Problem> {
    serve(http.match_info().query("name"))
}

fn serve(name: &str) -> Result<HttpResponse, Problem> {
    let found = utoipa_swagger_ui::serve(name, CONFIG.clone()).map_err(Problem::internal)?;
    let file = found.ok_or_else(|| Problem::not_found("There is no such file."))?;
    Ok(HttpResponse::Ok()
        .content_type(file.content_type)
        .insert_header(("content-security-policy", CONTENT_SECURITY_POLICY))
        .insert_header(("referrer-policy", "same-origin"))
        .insert_header(("cache-control", "no-cache"))
        .body(file.bytes.into_owned()))
}
