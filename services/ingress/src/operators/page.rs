//! What an operator watches. The page itself holds no figures: its script asks for them with the
//! admin token, which the operator types in and the browser forgets with the tab.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use askama::Template;

use crate::http::problem::Problem;
use crate::shop::pages::{assets, get, page};

#[derive(Template)]
#[template(path = "operators.html")]
struct Operators;

/// `GET /ops`.
async fn overview() -> Result<HttpResponse, Problem> {
    page(StatusCode::OK, &Operators)
}

/// The page and its parts, on the admin listener.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/ops", web::get().to(overview)))
        .service(get("/assets/{name}", web::get().to(assets::serve)));
}
