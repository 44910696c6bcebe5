//! Scripts and styles: part of the program, so that a page and its script are of one version.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use crate::http::problem::Problem;

struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "app.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("../../../assets/app.css"),
    },
    Asset {
        name: "shop.js",
        content_type: "text/javascript; charset=utf-8",
        text: concat!(
            include_str!("../../../assets/currencies.js"),
            include_str!("../../../assets/sale_page.js"),
            include_str!("../../../assets/account_pages.js"),
            include_str!("../../../assets/shop.js"),
        ),
    },
    Asset {
        name: "operators.js",
        content_type: "text/javascript; charset=utf-8",
        text: include_str!("../../../assets/operators.js"),
    },
];

/// Each asset's version: what its text hashes to.
static VERSIONS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let version = |asset: &Asset| hex::encode(&Sha256::digest(asset.text)[..8]);
    ASSETS.iter().map(version).collect()
});

/// The address of an asset of this version of the program, to be remembered for ever.
pub(crate) fn address(name: &str) -> String {
    let index = ASSETS.iter().position(|asset| asset.name == name);
    let version = index.map_or("", |index| &VERSIONS[index]);
    format!("/assets/{name}?v={version}")
}

/// `GET /assets/{name}`.
pub(crate) async fn serve(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let name = http.match_info().query("name");
    let index = ASSETS.iter().position(|asset| asset.name == name);
    let index = index.ok_or_else(|| Problem::not_found("There is no such file."))?;
    let asked = http.query_string().strip_prefix("v=");
    let cache_control = if asked == Some(&VERSIONS[index]) {
        "public, max-age=31536000, immutable"
    } else {
        // Another version's page, served by this one's process in a rolling update.
        "no-store"
    };
    let asset = &ASSETS[index];
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CACHE_CONTROL, cache_control))
        .body(asset.text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use actix_web::test::TestRequest;
    use seckill_domain::Currency;

    async fn cache_control(uri: &str) -> String {
        let request = TestRequest::get().uri(uri).param("name", "app.css");
        let answer = serve(request.to_http_request()).await.unwrap();
        let value = answer.headers().get(CACHE_CONTROL).unwrap();
        value.to_str().unwrap().to_owned()
    }

    #[actix_web::test]
    async fn only_the_version_that_is_served_is_remembered() {
        let address = address("app.css");
        assert!(cache_control(&address).await.contains("immutable"));
        assert_eq!(cache_control("/assets/app.css?v=older").await, "no-store");
        assert_eq!(cache_control("/assets/app.css").await, "no-store");
    }

    #[test]
    fn scripts_know_the_currencies_that_the_domain_knows() {
        let mut decimals: BTreeMap<usize, Vec<Currency>> = BTreeMap::new();
        for currency in Currency::all_in_use() {
            let of = decimals.entry(currency.decimals().unwrap()).or_default();
            of.push(currency);
        }
        let codes = |of: &[Currency]| {
            of.iter()
                .map(Currency::as_str)
                .collect::<Vec<_>>()
                .join(" ")
        };
        let lines = decimals
            .iter()
            .map(|(n, of)| format!("  {n}: \"{}\",\n", codes(of)));
        let signs = Currency::all_in_use().filter(|c| !c.prefix().starts_with(c.as_str()));
        let signs = signs.map(|c| format!("{c}: \"{}\"", c.prefix()));
        let expected = format!(
            "const DECIMALS = {{\n{}}};\nconst PREFIXES = {{ {} }};\n",
            lines.collect::<String>(),
            signs.collect::<Vec<_>>().join(", ")
        );
        let script = include_str!("../../../assets/currencies.js");
        assert_eq!(script.split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn scripts_and_styles_ask_nobody_else_for_anything() {
        for asset in &ASSETS {
            for outside in ["http://", "https://", "//cdn", "@import", "url("] {
                assert!(!asset.text.contains(outside), "{}: {outside}", asset.name);
            }
        }
    }
}
