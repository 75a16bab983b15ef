// sqs-consumer with its batch handler, BENCH_CONSUMERS of them in this process.
import { SQSClient } from "@aws-sdk/client-sqs";
import { Consumer } from "sqs-consumer";

const sqs = new SQSClient({ maxAttempts: 1 });
for (let i = 0; i < Number(process.env.BENCH_CONSUMERS); i += 1) {
  const consumer = Consumer.create({
    queueUrl: process.env.BENCH_QUEUE_URL,
    sqs,
    batchSize: 10,
    waitTimeSeconds: 20,
    handleMessageBatch: async (messages) => {
      for (const message of messages) JSON.parse(message.Body);
      return messages;
    },
  });
  consumer.on("error", (error) => console.error(error.message));
  consumer.start();
}
