/** @file A plan's division as keys of a config of tdrussell/diffusion-pipe. */
import type { Profile } from '../profile/types.ts';
import type { Plan } from '../types.ts';
import { deepSpeedCaveats, dividedChain } from './divided.ts';

/**
 * TOML for the top of the trainer's config. The keys as in its examples/main_example.toml and train.py (commit 8f83dbf, August 2026): `pipeline_stages`;
 * `partition_method = 'manual'` with `partition_split`, the first layer of each stage but the first (so one entry fewer than stages);
 * `gradient_accumulation_steps`, the micro-batches sent through the pipeline per step; `micro_batch_size_per_gpu`; `activation_checkpointing`. The number
 * of copies of the pipeline is what is left of the GPUs the trainer is started on. Layers are counted as in the profile: the trainer's own list
 * (`to_layers()` of the model) has to be cut alike. Throws what `dividedChain` throws.
 */
export function diffusionPipeConfig(plan: Plan, profile?: Profile): string {
	const { parts, microBatch, stages } = dividedChain(plan, 'diffusion-pipe', profile);
	const split = parts.slice(1, -1);
	return [
		`# ${plan.batch} samples a step on ${plan.devices} GPUs; layers are counted as in the profile, compare with the model's to_layers()`,
		...stages.map((line) => `# ${line}`),
		...deepSpeedCaveats(plan).map((line) => `# ${line}`),
		`pipeline_stages = ${stages.length}`,
		`micro_batch_size_per_gpu = ${microBatch}`,
		`gradient_accumulation_steps = ${plan.microBatches}`,
		...(split.length > 0 ? ["partition_method = 'manual'", `partition_split = [${split.join(', ')}]`] : []),
		`activation_checkpointing = ${plan.recompute}`,
		'',
	].join('\n');
}
