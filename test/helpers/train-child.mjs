// Trains the config given as JSON in the first argument, resuming when there is something to resume: a process to be killed.
import { readTrainConfig } from '../../dist/train/config.js';
import { trainModel } from '../../dist/train/trainer.js';

await trainModel(readTrainConfig(JSON.parse(process.argv[2])), {
	resume: true,
	onEvent: (event) => {
		if (event.kind === 'step') process.stdout.write(`${event.step}\n`);
	},
});
