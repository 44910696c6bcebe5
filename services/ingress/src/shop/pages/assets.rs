//! Scripts and styles: part of the program, so that a page and its script are of one version.

use std::sync::LazyLock;

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::{HttpRequest, HttpResponse};
use seckill_domain::Refusal;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::language::Language;
use crate::http::problem::Problem;

struct Asset {
    name: String,
    content_type: &'static str,
    text: String,
    /// What the text hashes to.
    version: String,
}

impl Asset {
    fn new(name: String, content_type: &'static str, text: String) -> Self {
        let version = hex::encode(&Sha256::digest(&text)[..8]);
        Self {
            name,
            content_type,
            text,
            version,
        }
    }

    /// A script, all texts of a language, and the names of the refusals of an order.
    fn script(name: &str, language: Language, script: &str) -> Self {
        let texts = json!(language.texts());
        let refusals = json!(Refusal::examples().map(Refusal::name));
        Self::new(
            format!("{name}.{}.js", language.code()),
            "text/javascript; charset=utf-8",
            format!("const TEXTS = {texts};\nconst REFUSALS = {refusals};\n{script}"),
        )
    }
}

const STYLE: &str = include_str!("../../../assets/app.css");
const SHOP: &str = concat!(
    include_str!("../../../assets/common.js"),
    include_str!("../../../assets/currencies.js"),
    include_str!("../../../assets/sale_page.js"),
    include_str!("../../../assets/account_pages.js"),
    include_str!("../../../assets/shop.js"),
);
const OPERATORS: &str = concat!(
    include_str!("../../../assets/common.js"),
    include_str!("../../../assets/operators_common.js"),
    include_str!("../../../assets/operators_deeds.js"),
    include_str!("../../../assets/live_plots.js"),
    include_str!("../../../assets/operators.js"),
);
const OPERATORS_SALE: &str = concat!(
    include_str!("../../../assets/common.js"),
    include_str!("../../../assets/operators_common.js"),
    include_str!("../../../assets/operators_deeds.js"),
    include_str!("../../../assets/operators_sale.js"),
);
/// uPlot 1.6.32 as it was released, under the MIT licence beside it.
const PLOT: &str = include_str!("../../../assets/uplot/uPlot.iife.min.js");
const PLOT_STYLE: &str = include_str!("../../../assets/uplot/uPlot.min.css");

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let style = [("app.css", STYLE), ("uplot.css", PLOT_STYLE)];
    let style = style.map(|(name, text)| {
        Asset::new(name.to_owned(), "text/css; charset=utf-8", text.to_owned())
    });
    let plot = Asset::new(
        "uplot.js".to_owned(),
        "text/javascript; charset=utf-8",
        PLOT.to_owned(),
    );
    let scripts = Language::ALL.into_iter().flat_map(|language| {
        [
            ("shop", SHOP),
            ("operators", OPERATORS),
            ("operators_sale", OPERATORS_SALE),
        ]
        .map(|(name, script)| Asset::script(name, language, script))
    });
    style.into_iter().chain([plot]).chain(scripts).collect()
});

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// The address of an asset of this version of the program, to be remembered for ever.
pub(crate) fn address(name: &str) -> String {
    let version = find(name).map_or("", |asset| &asset.version);
    format!("/assets/{name}?v={version}")
}

/// `GET /assets/{name}`.
pub(crate) async fn serve(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let asset = find(http.match_info().query("name"));
    let asset = asset.ok_or_else(|| Problem::not_found("There is no such file."))?;
    let asked = http.query_string().strip_prefix("v=");
    let cache_control = if asked == Some(&asset.version) {
        "public, max-age=31536000, immutable"
    } else {
        // Another version's page, served by this one's process in a rolling update.
        "no-store"
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, asset.content_type))
        .insert_header((CACHE_CONTROL, cache_control))
        .body(asset.text.as_str()))
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
        let lines = lines.collect::<String>();
        let expected = format!("const DECIMALS = {{\n{lines}}};\n");
        let script = include_str!("../../../assets/currencies.js");
        assert_eq!(script.split_once('\n').unwrap().1, expected);
    }

    #[test]
    fn scripts_and_styles_ask_nobody_else_for_anything() {
        for asset in ASSETS.iter() {
            // The comment that says whose work it is.
            let text = asset.text.replace("https://github.com/leeoniya/uPlot", "");
            for outside in ["http://", "https://", "//cdn", "@import", "url("] {
                assert!(!text.contains(outside), "{}: {outside}", asset.name);
            }
        }
    }
}
