//! A GStreamer element for templates that goes wrong in mid-stream, once: `trap key=… mode=… after=…`. The first
//! element with a key lets `after` buffers pass; elements that are made later with the same key let all pass.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use gst::glib;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_base::subclass::prelude::*;
use gstreamer_base::{BaseTransform, subclass::BaseTransformMode};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Nothing: it was another element's turn.
    None,
    /// Buffers vanish.
    Drop,
    /// The thread never comes back, and the pipeline can't be stopped.
    Sleep,
    /// As an element that somebody stopped: the flow ends, and nobody reports an error.
    Kill,
}

impl FromStr for Mode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "drop" => Ok(Self::Drop),
            "sleep" => Ok(Self::Sleep),
            "kill" => Ok(Self::Kill),
            _ => Err(()),
        }
    }
}

#[derive(Default)]
pub(crate) struct Imp {
    key: OnceLock<String>,
    mode: OnceLock<String>,
    after: OnceLock<u32>,
    effective: OnceLock<Mode>,
    seen: Mutex<u32>,
}

glib::wrapper! {
    pub(crate) struct Trap(ObjectSubclass<Imp>) @extends BaseTransform, gst::Element, gst::Object;
}

/// Makes the element known to templates.
pub(crate) fn register_once() {
    static REGISTERED: LazyLock<()> = LazyLock::new(|| {
        gst::init().expect("GStreamer");
        gst::Element::register(None, "trap", gst::Rank::NONE, Trap::static_type()).expect("a free name");
    });
    LazyLock::force(&REGISTERED);
}

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "WeirTrap";
    type Type = Trap;
    type ParentType = BaseTransform;
}

impl ObjectImpl for Imp {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecString::builder("key").build(),
                glib::ParamSpecString::builder("mode").build(),
                glib::ParamSpecUInt::builder("after").build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        let set = match spec.name() {
            "key" => value.get().ok().map(|key| self.key.set(key).is_ok()),
            "mode" => value.get().ok().map(|mode| self.mode.set(mode).is_ok()),
            _ => value.get().ok().map(|after| self.after.set(after).is_ok()),
        };
        assert_eq!(set, Some(true), "{}", spec.name());
    }
}

impl GstObjectImpl for Imp {}

impl ElementImpl for Imp {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> =
            LazyLock::new(|| gst::subclass::ElementMetadata::new("Trap", "Filter", "Goes wrong", "weir"));
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let pad = |name, direction| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &gst::Caps::new_any())
            };
            let pads = [pad("sink", gst::PadDirection::Sink), pad("src", gst::PadDirection::Src)];
            pads.into_iter().map(|pad| pad.expect("a pad template")).collect()
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for Imp {
    const MODE: BaseTransformMode = BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn transform_ip_passthrough(&self, _: &gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Only buffers count: templates are built once more to see whether they can be.
        let mode = *self.effective.get_or_init(|| {
            static SPRUNG: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);
            let key = self.key.get().cloned().unwrap_or_default();
            let first = SPRUNG.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
            let mode = self.mode.get().and_then(|mode| mode.parse().ok()).expect("a mode");
            if first { mode } else { Mode::None }
        });
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            *seen += 1;
            if *seen <= self.after.get().copied().unwrap_or(0) {
                return Ok(gst::FlowSuccess::Ok);
            }
        }
        match mode {
            Mode::None => Ok(gst::FlowSuccess::Ok),
            Mode::Drop => Ok(gstreamer_base::BASE_TRANSFORM_FLOW_DROPPED),
            Mode::Kill => Err(gst::FlowError::Flushing),
            Mode::Sleep => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
        }
    }
}
