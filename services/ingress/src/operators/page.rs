//! What an operator watches. The page itself holds no figures: its script asks for them with the
//! admin token, which the operator types in and the browser forgets with the tab.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use crate::http::problem::Problem;
use crate::shop::pages::{Page, assets, get, page};

#[derive(Template)]
#[template(path = "operators.html")]
struct Operators {
    page: Page,
}

/// `GET /ops`.
async fn overview(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let shown = Page::of(&http);
    page(&http, StatusCode::OK, &Operators { page: shown })
}

/// The page and its parts, on the admin listener.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/ops", web::get().to(overview)))
        .service(get("/assets/{name}", web::get().to(assets::serve)));
}
