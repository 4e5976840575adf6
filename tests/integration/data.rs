//! Data channels of clients that speak SCTP through another implementation, and of the process itself.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use mediasoup_types::data_structures::SctpState;
use mediasoup_types::sctp_parameters::SctpStreamParameters;
use weir::sfu::api::Event;
use weir::sfu::data::{Audience, DataConsumerOptions, DataProducerInfo, DataProducerOptions};
use weir::sfu::sctp::DataMessage;

use crate::support::core::{Core, transport_id};
use crate::support::transport::{Behaviour, Transport};

async fn open(core: &Core) -> Result<Arc<Transport>> {
    let transport = core.open(Behaviour { data_channels: true, ..Behaviour::default() }).await?;
    transport.seen.wait("SCTP", |seen| seen.has_data_channels.then_some(())).await?;
    Ok(transport)
}

fn options(sctp_stream_parameters: Option<SctpStreamParameters>) -> DataProducerOptions {
    let (label, protocol) = ("chat".to_owned(), String::new());
    DataProducerOptions { sctp_stream_parameters, label, protocol, paused: false }
}

async fn produce(core: &Core, transport: &Transport, stream: u16) -> Result<DataProducerInfo> {
    let parameters = SctpStreamParameters::new_ordered(stream);
    transport.open_channel(parameters).await?;
    Ok(core.router.produce_data(transport_id(transport)?, options(Some(parameters))).await?)
}

/// Gives a client a consumer of what somebody says; the stream that it comes on is returned.
async fn consume(core: &Core, transport: &Transport, producer: &DataProducerInfo) -> Result<u16> {
    let options = DataConsumerOptions::default();
    let info = core.router.consume_data(transport_id(transport)?, producer.id, options).await?;
    let parameters = info.sctp_stream_parameters.context("a stream")?;
    transport.open_channel(parameters).await?;
    Ok(parameters.stream_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_texts_go_there_and_come_back() -> Result<()> {
    let mut core = Core::start().await?;
    let (anna, ben) = (open(&core).await?, open(&core).await?);
    let id = transport_id(&anna)?;
    core.event(|event| (*event == Event::SctpStateChanged(id, SctpState::Connected)).then_some(())).await?;
    let there = produce(&core, &anna, 0).await?;
    let to_ben = consume(&core, &ben, &there).await?;
    let back = produce(&core, &ben, 100).await?;
    let to_anna = consume(&core, &anna, &back).await?;
    let text = |number: usize| format!("{number} {}", "x".repeat(number % 1500));
    for number in 0..1000 {
        anna.send_text(0, text(number)).await?;
        let arrived =
            ben.seen.wait("a text", |seen| seen.messages.get(&to_ben)?.get(number).cloned()).await?;
        ben.send_text(100, String::from_utf8(arrived.1)?).await?;
    }
    let came_back = anna
        .seen
        .wait("the echo", |seen| {
            seen.messages.get(&to_anna).filter(|messages| messages.len() == 1000).cloned()
        })
        .await?;
    assert!(came_back.into_iter().enumerate().all(|(n, message)| message == (true, text(n).into_bytes())));
    anna.close_channel(0).await?;
    core.router.close_data_producer(there.id).await?;
    core.event(|event| matches!(event, Event::DataConsumerClosed(_)).then_some(())).await?;
    let stats = core.stats(|stats| stats.data_producers == 1 && stats.data_consumers == 1).await?;
    assert_eq!((stats.messages_received, stats.dropped_data), (2000, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_talks_to_clients_and_a_reader_that_does_not_read_loses_messages() -> Result<()> {
    let core = Core::start().await?;
    let ben = open(&core).await?;
    let (direct, _) = core.router.create_direct_transport().await?;
    let bot = core.router.produce_data(direct, options(None)).await?;
    let to_ben = consume(&core, &ben, &bot).await?;
    let text = |text: &str| DataMessage::String(Bytes::from(text.to_owned()));
    core.router.send_data(bot.id, text("hello"), Audience::default()).await?;
    ben.seen.wait("the greeting", |seen| seen.messages.contains_key(&to_ben).then_some(())).await?;

    let bens = produce(&core, &ben, 100).await?;
    let consume = || core.router.consume_data_directly(direct, bens.id, DataConsumerOptions::default(), 2);
    let (info, mut reader) = consume().await?;
    for number in 0..5 {
        ben.send_text(100, number.to_string()).await?;
    }
    core.stats(|stats| stats.dropped_data == 3).await?;
    assert_eq!(core.router.data_consumer_stats(info.id).await?.messages_dropped, 3);
    assert_eq!((reader.recv().await, reader.recv().await), (Some(text("0")), Some(text("1"))));
    core.router.close_data_consumer(info.id).await?;
    assert_eq!(reader.recv().await, None, "the channel ends with the data consumer");

    let (_, reader) = consume().await?;
    drop(reader);
    ben.send_text(100, "to nobody".into()).await?;
    core.stats(|stats| stats.data_consumers == 1).await?;
    Ok(())
}
