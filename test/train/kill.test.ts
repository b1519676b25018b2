import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readTrainConfig } from '../../src/train/config.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { uniformStream } from '../helpers/random.ts';
import { readLosses, tinyConfig, tinyData } from '../helpers/tiny-run.ts';

const child = fileURLToPath(new URL('../helpers/train-child.mjs', import.meta.url));
const kills = 20;
const steps = 1500;

let tiny: Awaited<ReturnType<typeof tinyData>>;
beforeAll(async () => {
	tiny = await tinyData();
});
afterAll(() => tiny.remove());

const raw = (name: string) =>
	tinyConfig(tiny.data, join(tiny.root, name), {
		train: { max_steps: steps },
		checkpoint: { every_steps: 10, keep_last: 2 },
		log: { tensorboard: false },
	});

/** One life of a training process, killed after `ms`. True when it ended by itself before. */
function life(config: unknown, ms: number): Promise<boolean> {
	return new Promise((resolve, reject) => {
		const process = spawn('node', [child, JSON.stringify(config)], { stdio: ['ignore', 'ignore', 'pipe'] });
		let errors = '';
		process.stderr.on('data', (chunk: Buffer) => {
			errors += chunk.toString();
		});
		const timer = setTimeout(() => process.kill('SIGKILL'), ms);
		process.on('exit', (code, signal) => {
			clearTimeout(timer);
			if (signal === 'SIGKILL') resolve(false);
			else if (code === 0) resolve(true);
			else reject(new Error(`training failed with ${code}: ${errors}`));
		});
	});
}

it(`gives the losses of an undisturbed run after ${kills} kills at random moments`, { timeout: 240_000 }, async () => {
	await trainModel(readTrainConfig(raw('undisturbed')));
	const wanted = await readLosses(join(tiny.root, 'undisturbed'));
	expect(wanted.size).toBe(steps);
	const random = uniformStream(2026);
	let killed = 0;
	for (let round = 0; killed < kills; round++) {
		const config = raw(`killed-${round}`);
		while (killed < kills) {
			if (await life(config, 100 + 1700 * random())) break;
			killed++;
		}
		await life(config, 100_000);
		// Every loss that was ever written, and the final ones, equal to the last bit.
		expect([...(await readLosses(join(tiny.root, `killed-${round}`)))]).toEqual([...wanted]);
	}
});
