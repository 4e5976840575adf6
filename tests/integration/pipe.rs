//! Pipes over real sockets: between the workers of one process, and between two that only know each other's ports.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use weir::media::ortc;
use weir::sfu::api::{Event, ProducerInfo};
use weir::sfu::data::{Audience, DataConsumerOptions, DataProducerOptions};
use weir::sfu::pipe_transport::{PipeTransportInfo, PipeTransportOptions};
use weir::sfu::plain_transport::PlainRemote;
use weir::sfu::sctp::DataMessage;

use crate::support::core::{Core, transport_id};
use crate::support::peer::{Camera, Consumer};
use crate::support::publisher::Publisher;
use crate::support::reception::Reception;
use crate::support::transport::{Behaviour, Transport};

/// A viewer of a piped producer, in the router that `core` has at the moment.
async fn view(core: &Core, piped: &ProducerInfo) -> Result<(Arc<Transport>, Consumer)> {
    let viewer = core.open(Behaviour::default()).await?;
    let capabilities = ortc::parse_rtp_capabilities(&serde_json::to_value(core.router.rtp_capabilities())?)?;
    let info = core.router.consume(transport_id(&viewer)?, piped.id, capabilities, false).await?;
    let answer = serde_json::json!({
        "id": info.id, "producerId": info.producer_id, "kind": info.kind, "rtpParameters": info.rtp_parameters,
    });
    let consumer = Consumer::read(&answer).context("a consumer")?;
    consumer.expect_on(&viewer);
    Ok((viewer, consumer))
}

/// Waits until a consumer got so many packets more than now, none of them missing.
async fn flows(viewer: &Transport, consumer: &Consumer, more: u64) -> Result<()> {
    let before = viewer.seen.lock().stream(consumer.ssrc).packets;
    let enough = |reception: &Reception| reception.packets >= before + more;
    let ssrc = consumer.ssrc;
    let reception = viewer.seen.wait("packets", |seen| Some(seen.stream(ssrc)).filter(enough)).await?;
    assert_eq!((reception.missing(), reception.duplicates, reception.foreign), (vec![], 0, 0));
    Ok(())
}

async fn publish(core: &Core) -> Result<(Arc<Transport>, Publisher)> {
    let publishing = core.open(Behaviour::default()).await?;
    let publisher = core.publish_video(&publishing, Camera::Simple).await?;
    Ok((publishing, publisher))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_piped_to_routers_on_this_and_on_another_worker() -> Result<()> {
    let mut core = Core::start_with(|config| config.workers = 2).await?;
    let (_publishing, publisher) = publish(&core).await?;
    let producer = publisher.id.parse()?;
    let near = core.router.clone();
    // The first worker has a transport by now, the second has none: so this router is there, and the next one here.
    let elsewhere = core.pool.create_router(ortc::default_router_codecs()).await?;
    let piped_elsewhere = near.pipe_producer_to(producer, &elsewhere).await?;
    core.router = elsewhere;
    let (distant, distantly) = view(&core, &piped_elsewhere.producer).await?;
    flows(&distant, &distantly, 200).await?;

    let neighbour = core.pool.create_router(ortc::default_router_codecs()).await?;
    let piped_here = near.pipe_producer_to(producer, &neighbour).await?;
    core.router = neighbour;
    let (viewer, consumer) = view(&core, &piped_here.producer).await?;
    flows(&viewer, &consumer, 200).await?;

    near.set_producer_paused(producer, true).await?;
    let id = consumer.id.parse()?;
    core.event(|event| (*event == Event::ConsumerPaused(id)).then_some(())).await?;
    near.set_producer_paused(producer, false).await?;
    core.event(|event| (*event == Event::ConsumerResumed(id)).then_some(())).await?;
    flows(&viewer, &consumer, 60).await?;

    near.close_transport(piped_here.transport).await?;
    core.event(|event| matches!(event, Event::ConsumerClosed(closed) if *closed == id).then_some(())).await?;
    flows(&distant, &distantly, 60).await?;
    near.close_producer(producer).await?;
    let id = distantly.id.parse()?;
    core.event(|event| matches!(event, Event::ConsumerClosed(closed) if *closed == id).then_some(())).await?;
    // What is left are the three transports of clients.
    core.stats(|stats| (stats.transports, stats.producers, stats.consumers) == (3, 0, 0)).await?;

    let refused = near.pipe_producer_to(producer, &core.router).await;
    ensure!(refused.is_err(), "the producer is gone");
    core.stats(|stats| stats.transports == 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_piped_to_another_process_protected_and_repaired() -> Result<()> {
    let options =
        PipeTransportOptions { enable_rtx: true, enable_srtp: true, ..PipeTransportOptions::default() };
    let (origin, edge) = (Core::start().await?, Core::start().await?);
    let near_end = origin.router.create_pipe_transport(options.clone()).await?;
    let far_end = edge.router.create_pipe_transport(options).await?;
    let remote = |end: &PipeTransportInfo| -> Result<PlainRemote> {
        Ok(PlainRemote {
            ip: Some(end.tuple.local_address().parse()?),
            port: Some(end.tuple.local_port()),
            rtcp_port: None,
            srtp_parameters: end.srtp_parameters.clone(),
        })
    };
    origin.router.connect_plain_transport(near_end.id, remote(&far_end)?).await?;
    edge.router.connect_plain_transport(far_end.id, remote(&near_end)?).await?;

    let (_publishing, publisher) = publish(&origin).await?;
    let piped = origin.router.consume_pipe(near_end.id, publisher.id.parse()?, false).await?;
    ensure!(piped.rtp_parameters.encodings.iter().all(|encoding| encoding.rtx.is_some()));
    let far = edge.router.produce(far_end.id, piped.kind, piped.rtp_parameters, false).await?;
    let (viewer, consumer) = view(&edge, &far).await?;
    flows(&viewer, &consumer, 300).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_producer_is_piped_to_another_worker_and_followed() -> Result<()> {
    let mut core = Core::start_with(|config| config.workers = 2).await?;
    let near = core.router.clone();
    let (bot, _) = near.create_direct_transport().await?;
    let options = DataProducerOptions {
        sctp_stream_parameters: None,
        label: "chat".into(),
        protocol: String::new(),
        paused: false,
    };
    let producer = near.produce_data(bot, options).await?;
    let elsewhere = core.pool.create_router(ortc::default_router_codecs()).await?;
    let piped = near.pipe_data_producer_to(producer.id, &elsewhere).await?;
    ensure!(piped.producer.label == "chat");
    let (listening, _) = elsewhere.create_direct_transport().await?;
    let options = DataConsumerOptions::default();
    let (consumer, mut heard) =
        elsewhere.consume_data_directly(listening, piped.producer.id, options, 64).await?;
    for number in 0..32 {
        let message = DataMessage::String(Bytes::from(number.to_string()));
        near.send_data(producer.id, message, Audience::default()).await?;
    }
    for number in 0..32 {
        ensure!(heard.recv().await == Some(DataMessage::String(Bytes::from(number.to_string()))));
    }

    near.set_data_producer_paused(producer.id, true).await?;
    core.event(|event| (*event == Event::DataConsumerPaused(consumer.id)).then_some(())).await?;
    near.close_data_producer(producer.id).await?;
    ensure!(heard.recv().await.is_none(), "the far data producer went with the near one");
    core.stats(|stats| (stats.transports, stats.data_producers, stats.data_consumers) == (2, 0, 0)).await?;
    let refused = near.pipe_data_producer_to(producer.id, &elsewhere).await;
    ensure!(refused.is_err(), "the data producer is gone");
    core.stats(|stats| stats.transports == 2).await?;
    Ok(())
}
