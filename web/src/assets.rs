//! The script, the style and the icon of the pages. Their names have a hash of their content, so
//! that a browser keeps them for a year and still gets new ones at once.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::LazyLock;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;
use crate::query::InPath;

/// The files with their names and types. Nothing else is served below `/assets/`.
static ASSETS: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new("style", "css", "text/css; charset=utf-8", include_str!("assets/style.css")),
        Asset::new(
            "script",
            "js",
            "text/javascript; charset=utf-8",
            include_str!("assets/script.js"),
        ),
        Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")),
    ]
});

/// A file and its name.
pub(crate) struct Asset {
    pub path: String,
    content_type: &'static str,
    content: &'static str,
}

impl Asset {
    fn new(name: &str, end: &str, content_type: &'static str, content: &'static str) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        let path = format!("/assets/{name}-{:016x}.{end}", hasher.finish());
        Self { path, content_type, content }
    }
}

/// The style, the script and the icon.
pub(crate) fn all() -> &'static [Asset; 3] {
    &ASSETS
}

/// `/assets/{name}`.
pub(crate) async fn asset(InPath(name): InPath) -> Response {
    let asset = ASSETS.iter().find(|asset| asset.path.strip_prefix("/assets/") == Some(&name));
    let Some(Asset { content_type, content, .. }) = asset else {
        return Problem::of_http(StatusCode::NOT_FOUND, "there is no such file").into_response();
    };
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (header::CACHE_CONTROL, kept),
    ];
    (headers, *content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_pages_are_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(bytes < 60 * 1024, "{bytes} bytes");
    }
}
