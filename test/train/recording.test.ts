/** @file What a traced run leaves: its plan with what that was made from, the last traced step, and memory predicted and measured. */
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'smol-toml';
import { expect, it } from 'vitest';
import { readPlan } from '../../src/plan/plan-json.ts';
import { readRecord } from '../../src/program/step-record.ts';
import { readTrainConfig } from '../../src/train/config.ts';
import { trainModel } from '../../src/train/trainer.ts';
import { runCli } from '../cli/context.ts';
import { tinyConfig, tinyData } from '../helpers/tiny-run.ts';

it('keeps plan and last traced step, which compare puts beside each other', async () => {
	const { root, data, remove } = await tinyData();
	try {
		const out = join(root, 'run');
		const config = tinyConfig(data, out, {
			parallel: { pipeline_stages: 2, partition_method: 'time' },
			train: { max_steps: 4 },
			log: { trace_every_steps: 2, tensorboard: false },
		});
		await trainModel(readTrainConfig(config));
		const json = async (name: string) => JSON.parse(await readFile(join(out, name), 'utf8')) as unknown;
		const plan = readPlan(await json('plan.json'));
		const record = readRecord(await json('timeline.json'));
		expect([plan.stages.length, plan.microBatches, record.step]).toEqual([2, 2, 4]);
		expect(existsSync(join(out, 'traces/step-2.json')) && existsSync(join(out, 'traces/step-4.json'))).toBe(true);
		const actions = record.devices.map(({ spans }) =>
			spans.flatMap(({ action }) => (action ? [`${action.stage}${action.kind}${action.micro}`] : [])),
		);
		expect(actions).toEqual(plan.rows.map((row) => row.split(',')));
		for (const { fixedBytes, predictedBytes, measuredBytes } of record.memory) {
			expect(measuredBytes).toBeGreaterThan(fixedBytes);
			expect(Math.abs(measuredBytes! / predictedBytes - 1)).toBeLessThan(0.2);
		}
		// One number wherever it is shown: the plan, the record that compare reads, and a dry run with the same cuts.
		const predicted = record.memory.map(({ predictedBytes }) => predictedBytes);
		expect(plan.peakBytes).toEqual(predicted);
		const split = plan.stages.slice(1).map(({ layers }) => layers[0]);
		const toml = join(root, 'run.toml');
		const parallel = { pipeline_stages: 2, partition_method: 'manual', partition_split: split };
		await writeFile(toml, stringify({ ...config, parallel }));
		const dry = JSON.parse((await runCli(['train', toml, '--dry-run', '--json'])).out);
		expect(dry.plan.memory.map(({ peakBytes }: { peakBytes: number }) => peakBytes)).toEqual(predicted);
		const { out: text, code } = await runCli(['compare', out, '--json']);
		expect(code).toBe(0);
		expect(JSON.parse(text)).toMatchObject({ step: 4, devices: [{ device: 0 }, { device: 1 }] });
	} finally {
		await remove();
	}
}, 60_000);
