//! A path and the methods that it takes.

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::{HttpResponse, Resource, Route, web};

use crate::http::problem::Problem;

/// A path and its methods; any other method is answered with those in `Allow`. HEAD comes here as GET.
pub(crate) fn resource<const N: usize>(path: &str, routes: [(Method, Route); N]) -> Resource {
    let mut resource = web::resource(path);
    let mut allowed = Vec::with_capacity(N + 1);
    for (method, route) in routes {
        let is_get = method == Method::GET;
        allowed.push(method);
        if is_get {
            allowed.push(Method::HEAD);
        }
        resource = resource.route(route);
    }
    let allowed: Arc<[Method]> = allowed.into();
    resource.default_service(web::to(move || {
        let refusal = Problem::method_not_allowed(&allowed);
        async move { Err::<HttpResponse, _>(refusal) }
    }))
}
