/** @file What the training of a cascade would do: its whole config, and how the layers of both models lie over the devices. */
import { stringify } from 'smol-toml';
import { traceChain } from '../nn/chain.ts';
import { placeSchedule } from '../plan/schedules/index.ts';
import { formatScheduleGrid, parseSchedule } from '../plan/schedules/text.ts';
import { formatProgram } from '../program/text.ts';
import { backboneNames, type CascadeConfig, perBackbone } from '../train/cascade/config.ts';
import { createCascadeModels } from '../train/cascade/models.ts';
import { cascadeRunParts } from '../train/cascade/parts.ts';
import { type CascadePlan, planCascade } from '../train/cascade/plan.ts';
import { openTextEncoder } from '../train/frozen-parts.ts';
import { placeOptionsOf } from '../train/layout.ts';
import { microBatchSize } from '../train/plan.ts';
import { peaksOf } from '../train/planned.ts';
import type { Console } from './console.ts';
import { formatCount } from './format.ts';
import { bubbleText, peakLine, planLines } from './progress.ts';

/**
 * Prints the resolved config as TOML, the stages of both models and the order of their work; as JSON, one document with the programs of all devices.
 * @throws DiffusionPipeError of kind 'config' when the config could not be trained
 */
export async function dryRunCascade(config: CascadeConfig, console: Console): Promise<void> {
	const { base } = config;
	const text = await openTextEncoder(base, (event) => event.kind === 'note' && console.note(event.text));
	await text?.close();
	const models = createCascadeModels(config, text);
	const chains = perBackbone((name) => models.parts[name].chain);
	const parts = text && base.frozen.cache === 'fill' ? await cascadeRunParts(config, models) : undefined;
	try {
		// AdamW keeps two moments per parameter, and the moving average counts as a third.
		const moments = base.train.ema_decay > 0 ? 3 : 2;
		const onMeasure = () => console.note('measuring the layers to plan the stages');
		const { compiled, stages, cuts, planned } = await planCascade(chains, config, { moments, parts, onMeasure });
		const devices = compiled.program.devices.length;
		const parameters = perBackbone((name) => {
			const trace = traceChain(chains[name], microBatchSize(base));
			return [...trace.parameters.values()].reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0);
		});
		const predicted = planned && { iterationMs: planned.plan.iterationMs, bubbleRatio: planned.plan.bubbleRatio };
		const memory = peaksOf(compiled.program);
		const document = {
			devices,
			parameters,
			cuts,
			stages,
			...(predicted ? { predicted } : {}),
			memory,
			program: formatProgram(compiled.program),
		};
		console.json({ config, plan: document });
		console.print(
			stringify(documentOf(config)),
			`${backboneNames.map((name) => `${formatCount(parameters[name])} parameters of ${name}`).join(', ')}`,
			...planLines({ devices, stages }),
			...(predicted ? [`${predicted.iterationMs.toFixed(1)} ms per step predicted, bubbles ${bubbleText(predicted.bubbleRatio)}`] : []),
			peakLine(memory),
			`schedule ${base.parallel.pipeline_schedule} (stage, Forward/Backward, micro-batch):`,
			gridOf(config, planned).trimEnd(),
		);
	} finally {
		await parts?.close();
	}
}

/** The config as a file would have it: the base's tables, and what differs for the other. */
function documentOf({ base, super_resolution: own, condition_noise }: CascadeConfig): Record<string, unknown> {
	const { model, scheduler, objective, optimizer, parallel } = own;
	const split = parallel.partition_split ? { partition_split: parallel.partition_split } : {};
	return { ...base, super_resolution: { condition_noise, ...split, model, scheduler, objective, optimizer } };
}

function gridOf({ base }: CascadeConfig, planned: CascadePlan['planned']): string {
	const placed = placeSchedule(base.parallel.pipeline_schedule, { ...placeOptionsOf(base), backbones: 2 });
	const rows = planned ? parseSchedule(planned.plan.rows.map((row) => `${row}\n`).join('')) : placed.rows;
	return formatScheduleGrid(rows, placed.stages);
}
