//! The files a page is made of: embedded in the program, named after their content, and so kept for ever by browsers.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

struct Asset {
    name: &'static str,
    ending: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset {
        name: "console",
        ending: "css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../assets/console.css"),
    },
    Asset {
        name: "console",
        ending: "js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../assets/console.js"),
    },
    Asset {
        name: "htmx",
        ending: "js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../../assets/htmx.min.js"),
    },
    Asset {
        name: "mark",
        ending: "svg",
        kind: "image/svg+xml",
        bytes: include_bytes!("../../assets/mark.svg"),
    },
];

/// File names with the first digits of their content's SHA-256, in the order of `ASSETS`.
static NAMES: LazyLock<[String; 4]> = LazyLock::new(|| {
    ASSETS.map(|asset| {
        let digest: String =
            Sha256::digest(asset.bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{digest}.{}", asset.name, asset.ending)
    })
});

/// The address of an asset by its plain name, such as `console.css`.
pub fn address(plain: &str) -> String {
    let at = ASSETS.iter().position(|asset| format!("{}.{}", asset.name, asset.ending) == plain);
    let name = at.and_then(|at| NAMES.get(at)).expect("templates name only assets that are embedded");
    format!("/assets/{name}")
}

/// `GET /assets/{file}`
pub async fn serve(Path(file): Path<String>) -> Response {
    match NAMES.iter().zip(&ASSETS).find(|(name, _)| **name == file) {
        Some((_, asset)) => (
            [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
            ],
            asset.bytes,
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_changes_with_the_content() {
        let address = address("console.css");
        assert!(address.starts_with("/assets/console-") && address.ends_with(".css"), "{address}");
        assert_eq!(address.len(), "/assets/console-0123456789ab.css".len());
    }
}
