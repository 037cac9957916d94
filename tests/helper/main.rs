//! The helper image, the one-writer lock and the recording proxy, on a real engine.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/recorder.rs"]
mod recorder;
#[path = "../support/mod.rs"]
mod support;

mod image;
mod lock;
mod proxy;

use std::path::PathBuf;
use std::sync::LazyLock;

use dockmaster::runtime::docker::helper_image::HelperImage;

/// The executable that users run, not this test's.
fn executable() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_dockmaster"))
}

/// One for all tests, as an operator has one.
fn helper() -> HelperImage {
    static HELPER: LazyLock<HelperImage> = LazyLock::new(|| HelperImage::from_executable(executable()));
    HELPER.clone()
}

/// A name that no other test and no other run uses: letters and digits.
fn unique() -> String {
    format!("t{}", &uuid::Uuid::now_v7().simple().to_string()[20..])
}
