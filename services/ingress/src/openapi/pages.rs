//! A table of the pages and other resources beside the API. They have no parameters that need a description.

use serde_json::{Map, Value, json};

/// `GET` of one path.
pub(super) struct HtmlPage {
    pub(super) path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    /// The content type of status 200.
    content_type: &'static str,
    /// The statuses of refusals, and their content type.
    refusals: (&'static [u16], &'static str),
}

const HTML: &str = "text/html";
const PROBLEM: &str = "application/problem+json";

const fn page(path: &'static str, id: &'static str, summary: &'static str) -> HtmlPage {
    HtmlPage {
        path,
        id,
        tag: "Pages",
        summary,
        content_type: HTML,
        refusals: (&[], PROBLEM),
    }
}

const ASSETS: HtmlPage = HtmlPage {
    content_type: "*/*",
    refusals: (&[404], PROBLEM),
    ..page("/assets/{name}", "getAsset", "A page's script or style.")
};
const DOCUMENT: HtmlPage = HtmlPage {
    content_type: "application/json",
    ..page("/openapi.json", "getDocument", "This document.")
};
const VIEWER: HtmlPage = page("/docs/", "viewDocument", "This document, to look at.");
const VIEWER_FILES: HtmlPage = HtmlPage {
    content_type: "*/*",
    refusals: (&[404], PROBLEM),
    ..page("/docs/{name}", "getViewerFile", "A part of the viewer.")
};

pub(super) const PUBLIC: [HtmlPage; 8] = [
    HtmlPage {
        refusals: (&[503], HTML),
        ..page("/", "viewShelf", "The sales on the shelf.")
    },
    HtmlPage {
        refusals: (&[400, 404, 503], HTML),
        ..page("/sales/{voucher_id}", "viewSale", "A sale, and the button.")
    },
    page("/orders", "viewOrders", "The orders of who is signed in."),
    page("/sign-in", "viewSignIn", "The sign-in."),
    ASSETS,
    DOCUMENT,
    VIEWER,
    VIEWER_FILES,
];

const fn process(path: &'static str, id: &'static str, summary: &'static str) -> HtmlPage {
    HtmlPage {
        tag: "Process",
        content_type: "text/plain",
        ..page(path, id, summary)
    }
}

pub(super) const ADMIN: [HtmlPage; 9] = [
    process("/livez", "isAlive", "Whether the process runs."),
    HtmlPage {
        content_type: "application/json",
        refusals: (&[503], "application/json"),
        ..process(
            "/readyz",
            "isReady",
            "Whether it serves; `problems` names what keeps it from that.",
        )
    },
    process("/metrics", "getMetrics", "For Prometheus."),
    page("/ops", "viewOperations", "The operators' page."),
    HtmlPage {
        refusals: (&[400, 404], PROBLEM),
        ..page(
            "/ops/sales/{voucher_id}",
            "viewSaleOfOperators",
            "A sale, as operators see it.",
        )
    },
    ASSETS,
    DOCUMENT,
    VIEWER,
    VIEWER_FILES,
];

impl HtmlPage {
    pub(super) fn operation(&self) -> Value {
        let content = |name: &str| json!({ (name): { "schema": {} } });
        let mut responses = Map::new();
        let served = json!({ "description": self.summary, "content": content(self.content_type) });
        responses.insert("200".to_owned(), served);
        let (statuses, content_type) = self.refusals;
        for status in statuses {
            let refused = json!({ "description": "Not served.", "content": content(content_type) });
            responses.insert(status.to_string(), refused);
        }
        json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": responses,
        })
    }
}
