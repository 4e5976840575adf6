//! What kind of refusal each error is: the one table that every outer protocol makes its codes from.

use super::broadcasters::{AccessError, BroadcasterConsumeError, CreateBroadcasterError};
use super::error::{
    AppDataTooLong, ConnectPlainTransportError, ConnectTransportError, ConsumeDataError, ConsumeError,
    ControlError, CreateTransportError, IntroduceError, JoinError, NotYours, PeerGone, ProduceDataError,
    ProduceError, SetBitrateError,
};
use crate::sfu::{api, data, plain_transport};
use crate::worker::RequestError;

/// What kind of refusal an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request makes no sense: a missing field, a wrong type, parameters that contradict each other.
    BadRequest,
    /// What the request is about is not there, or not the asker's.
    NotFound,
    /// It has been done before and can be done only once.
    Already,
    /// Something has to come first: joining, or a transport.
    NotReady,
    /// There are as many as there may be, or it is too long.
    Limit,
    /// The asker can't receive what the producer sends.
    CannotConsume,
    /// The settings do not allow it.
    Forbidden,
    /// The room or the server ends.
    Closed,
}

/// An error that tells what kind of refusal it is. Its text is meant for the one who asked.
pub trait Explained: std::error::Error {
    /// What kind of refusal it is.
    fn fault(&self) -> Fault;
}

/// What kind of refusal a worker's is; one that is shut down did not even read the request.
fn media<E>(error: &RequestError<E>, fault: impl FnOnce(&E) -> Fault) -> Fault {
    match error {
        RequestError::Closed => Fault::Closed,
        RequestError::Failed(error) => fault(error),
    }
}

/// Tells of each error type what kind of refusal it is.
macro_rules! faults {
    ($($error:ty: $fault:expr),+ $(,)?) => {$(
        impl Explained for $error {
            fn fault(&self) -> Fault {
                let fault: fn(&$error) -> Fault = $fault;
                fault(self)
            }
        }
    )+};
}

faults! {
    NotYours: |_| Fault::NotFound,
    PeerGone: |_| Fault::Closed,
    JoinError: |error| match error {
        JoinError::Full(_) | JoinError::TooManyRooms(_) => Fault::Limit,
        JoinError::NameTaken => Fault::Already,
        JoinError::Closed => Fault::Closed,
        JoinError::Media(error) => media(error, |_| Fault::Limit),
    },
    IntroduceError: |error| match error {
        IntroduceError::Gone(_) => Fault::Closed,
        IntroduceError::NameTooLong(_) | IntroduceError::DeviceTooLong(_) => Fault::Limit,
    },
    CreateTransportError: |error| match error {
        CreateTransportError::Gone(_) => Fault::Closed,
        CreateTransportError::Full(_) => Fault::Limit,
        CreateTransportError::Media(error) => media(error, |_| Fault::Limit),
    },
    ConnectTransportError: |error| match error {
        ConnectTransportError::NotFound(_) => Fault::NotFound,
        ConnectTransportError::Media(error) => media(error, |error| match error {
            api::ConnectTransportError::NotFound(_) => Fault::NotFound,
            api::ConnectTransportError::AlreadyConnected => Fault::Already,
            _ => Fault::BadRequest,
        }),
    },
    SetBitrateError: |error| match error {
        SetBitrateError::NotFound(_) => Fault::NotFound,
        SetBitrateError::Media(error) => media(error, |error| match error {
            api::SetBitrateError::NotFound(_) => Fault::NotFound,
            api::SetBitrateError::TooLow(_) | api::SetBitrateError::Crossed { .. } => Fault::BadRequest,
        }),
    },
    ConnectPlainTransportError: |error| match error {
        ConnectPlainTransportError::NotFound(_) => Fault::NotFound,
        ConnectPlainTransportError::Destination(_) => Fault::Forbidden,
        ConnectPlainTransportError::Media(error) => media(error, |error| match error {
            plain_transport::ConnectPlainError::NotFound(_) => Fault::NotFound,
            plain_transport::ConnectPlainError::AlreadyConnected => Fault::Already,
            _ => Fault::BadRequest,
        }),
    },
    ProduceError: |error| match error {
        ProduceError::NoTransport => Fault::NotReady,
        ProduceError::NotFound(_) => Fault::NotFound,
        ProduceError::Full(_) => Fault::Limit,
        ProduceError::Closed => Fault::Closed,
        ProduceError::HlsStart => Fault::BadRequest,
        ProduceError::Media(error) => media(error, |error| match error {
            api::ProduceError::NotFound(_) => Fault::NotFound,
            api::ProduceError::Full(_) => Fault::Limit,
            api::ProduceError::Parameters(_) => Fault::BadRequest,
        }),
    },
    ConsumeError: |error| match error {
        ConsumeError::NoTransport => Fault::NotReady,
        ConsumeError::NotFound(_) => Fault::NotFound,
        ConsumeError::Full(_) => Fault::Limit,
        ConsumeError::Closed => Fault::Closed,
        ConsumeError::Media(error) => media(error, |error| match error {
            api::ConsumeError::NotFound(_) => Fault::NotFound,
            api::ConsumeError::Full(_) => Fault::Limit,
            api::ConsumeError::Capabilities(_) => Fault::CannotConsume,
        }),
    },
    ProduceDataError: |error| match error {
        ProduceDataError::NotFound(_) => Fault::NotFound,
        ProduceDataError::Full(_) => Fault::Limit,
        ProduceDataError::Closed => Fault::Closed,
        ProduceDataError::Media(error) => media(error, |error| match error {
            data::ProduceDataError::NotFound(_) => Fault::NotFound,
            data::ProduceDataError::NoSctp => Fault::NotReady,
            data::ProduceDataError::Parameters(_) => Fault::BadRequest,
            data::ProduceDataError::NameTooLong | data::ProduceDataError::Full(_) => Fault::Limit,
        }),
    },
    ConsumeDataError: |error| match error {
        ConsumeDataError::NotFound(_) => Fault::NotFound,
        ConsumeDataError::Full(_) => Fault::Limit,
        ConsumeDataError::Closed => Fault::Closed,
        ConsumeDataError::Media(error) => media(error, |error| match error {
            data::ConsumeDataError::NotFound(_) => Fault::NotFound,
            data::ConsumeDataError::NoSctp => Fault::NotReady,
            data::ConsumeDataError::Options(_) => Fault::BadRequest,
            data::ConsumeDataError::Full(_) => Fault::Limit,
        }),
    },
    AppDataTooLong: |_| Fault::Limit,
    AccessError: |_| Fault::Forbidden,
    CreateBroadcasterError: |error| match error {
        CreateBroadcasterError::Full(_) => Fault::Limit,
        CreateBroadcasterError::Join(error) => error.fault(),
        CreateBroadcasterError::Introduce(error) => error.fault(),
    },
    BroadcasterConsumeError: |error| match error {
        BroadcasterConsumeError::NoCapabilities => Fault::NotReady,
        BroadcasterConsumeError::Consume(error) => error.fault(),
        BroadcasterConsumeError::Control(error) => error.fault(),
    },
    ControlError: |error| match error {
        ControlError::NotFound(_) | ControlError::NoneOfKind(_) => Fault::NotFound,
        ControlError::Media(error) => media(error, |_| Fault::NotFound),
    },
}
