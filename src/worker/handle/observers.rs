//! Requests about observers.

use super::{RequestError, RouterHandle};
use crate::ids::{ProducerId, RtpObserverId};
use crate::sfu::observers::{ObserveError, ObserverOptions};

impl RouterHandle {
    /// Makes an observer, which observes nobody yet.
    ///
    /// # Errors
    /// See [`ObserveError`].
    pub async fn create_observer(
        &self,
        options: ObserverOptions,
    ) -> Result<RtpObserverId, RequestError<ObserveError>> {
        let router = self.id;
        self.worker.call(move |turn| turn.core.create_observer(router, options)).await
    }

    /// Lets an observer observe an audio producer.
    ///
    /// # Errors
    /// See [`ObserveError`].
    pub async fn observe(
        &self,
        observer: RtpObserverId,
        producer: ProducerId,
    ) -> Result<(), RequestError<ObserveError>> {
        self.worker.call(move |turn| turn.core.observe(turn.now, observer, producer)).await
    }
}
