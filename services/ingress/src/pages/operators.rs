//! What an operator watches. The page itself holds no figures: its script asks for them with the
//! admin token, which the operator types in and the browser forgets with the tab.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use askama::Template;

use super::page;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "operators.html")]
struct Operators;

/// `GET /ops`.
pub(super) async fn overview() -> Result<HttpResponse, Problem> {
    page(StatusCode::OK, &Operators)
}
