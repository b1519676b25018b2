/** @file What trainers that split one chain of layers can take of a plan: bounds of the stages, samples per device. */
import { DiffusionPipeError } from '../../core/errors.ts';
import type { Profile } from '../profile/types.ts';
import type { Plan } from '../types.ts';

/** A plan with one stage per rank, as trainers with a fixed schedule know it. */
export interface DividedChain {
	/** 0, the first layer of each further stage, the number of layers. */
	readonly parts: readonly number[];
	/** Samples of a micro-batch on one device. */
	readonly microBatch: number;
	/** Copies of every stage. */
	readonly copies: number;
	/** A line per stage: its layers, and their names where a profile was given. */
	readonly stages: readonly string[];
}

/**
 * `plan` as bounds in one chain. Throws a config error naming the option to plan again with when `trainer` has no way to say what the plan says: two
 * backbones, several stages on a rank, stages on different numbers of devices, or a micro-batch that does not part evenly over them.
 */
export function dividedChain(plan: Plan, trainer: string, profile?: Profile): DividedChain {
	const refuse = (what: string, found: string, hint: string): never => {
		throw new DiffusionPipeError('config', `${trainer} cannot run this plan: ${what}`, { place: 'plan', found, hint });
	};
	const backbones = [...new Set(plan.stages.map((stage) => stage.backbone))];
	if (backbones.length > 1) refuse('it trains one chain of layers', `backbones ${backbones.join(' and ')}`, 'plan each backbone apart');
	if (plan.stages.length !== plan.ranks)
		refuse('it holds one stage per rank', `${plan.stages.length} stages on ${plan.ranks} ranks`, '--schedule 1f1b --placement linear');
	const replicas = [...new Set(plan.stages.map((stage) => stage.replicas))];
	if (replicas.length > 1)
		refuse(
			'it holds every stage on as many devices',
			`stages on ${plan.stages.map((stage) => stage.replicas).join(', ')} devices`,
			`--stages and --pipelines whose product is ${plan.devices}`,
		);
	const copies = plan.pipelines * replicas[0]!;
	const microBatch = plan.batch / (copies * plan.microBatches);
	if (!Number.isInteger(microBatch))
		refuse(
			'every device takes whole samples',
			`${microBatch} samples of a micro-batch on each of ${copies} devices`,
			`--batch ${Math.ceil(microBatch) * copies * plan.microBatches}`,
		);
	const layers = profile?.backbones.find(({ name }) => name === backbones[0])?.layers;
	const stages = plan.stages.map(({ layers: [from, to] }, i) => {
		const names = layers?.slice(from, to).map(({ name }) => name);
		const named = names && names.length > 0 ? `: ${names.length > 1 ? `${names[0]} ... ${names.at(-1)}` : names[0]}` : '';
		return `stage ${i}, layers ${from} to ${to - 1}${named}`.replace(/\p{Cc}/gu, ' ');
	});
	return { parts: [0, ...plan.stages.map((stage) => stage.layers[1])], microBatch, copies, stages };
}

/** What of `plan` a trainer that always runs DeepSpeed's schedule will not follow, a line each. */
export function deepSpeedCaveats({ schedule, warmup, pipelines, layout, fill, frozenMs, stages }: Plan): string[] {
	const lines: string[] = [];
	if (stages.length > 1 && (schedule !== '1f1b' || warmup !== 'usual'))
		lines.push(`The plan's schedule is ${schedule} (${warmup} warm-up); DeepSpeed runs 1f1b with the usual one.`);
	if (pipelines > 1 && stages.length > 1 && layout === 'pipelines')
		lines.push(
			'DeepSpeed puts the copies of a stage on neighbouring devices, the plan the stages of a pipeline: plan with --layout copies.',
		);
	if (fill.length > 0 || frozenMs > 0)
		lines.push('Frozen components run where the trainer runs them, not in the idle time that the plan fills.');
	return lines;
}
