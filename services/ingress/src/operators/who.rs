//! The operator's name and role, for pages that show only the allowed actions.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use crate::http::problem::Problem;
use crate::http::schema::one_of;
use crate::operators::Admin;
use crate::operators::role::{Action, Role};

/// The operator whose token it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperatorBody {
    /// As it stands in the audit; null for the token that all share.
    #[schema(required = true)]
    name: Option<String>,
    #[schema(schema_with = role)]
    role: &'static str,
}

fn role() -> Object {
    one_of(
        "viewer: reads. operator: changes sales that are there, too. admin: puts sales up, too.",
        Role::ALL.map(Role::as_str),
    )
}

/// Returns the operator whose token it is, and what the operator may do.
///
/// # Errors
/// `unauthorized`, `forbidden`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/operator",
    operation_id = "getOperator",
    tag = "Operators",
    responses((status = 200, description = "Who calls.", body = OperatorBody)),
    security(("adminToken" = [])),
    extensions(("x-headers" = json!({"200": ["Cache-Control"]}))),
)]
pub async fn operator(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let operator = admin.operator(&http, Action::Read).await?;
    Ok(HttpResponse::Ok().json(OperatorBody {
        name: operator.name.map(|name| name.to_string()),
        role: operator.role.as_str(),
    }))
}
