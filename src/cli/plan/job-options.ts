/** @file Options that say which job is planned, and on which devices: the same for every command about plans. */
import type { OptionSpecs } from '../command.ts';

export const jobOptions = {
	profile: { kind: 'text', value: 'p.json', summary: 'Profile of the layers, from `profile` or anywhere else' },
	cluster: { kind: 'text', value: 'c.json', summary: 'Cluster: hosts, devices, memory and links' },
	accelerator: {
		kind: 'text',
		value: 'name',
		summary: 'Compute for hosts of this accelerator, as A100-80 or H100, in place of a cluster file',
	},
	hosts: { kind: 'integer', value: 'n', min: 1, summary: 'With --accelerator: hosts; 1 unless given' },
	devicesPerHost: { kind: 'integer', value: 'n', min: 1, summary: 'With --accelerator: devices of each host; 8 unless given' },
	devices: { kind: 'integer', value: 'n', min: 1, summary: 'Devices in all; alone, those of this machine, or with free links' },
	interGbps: { kind: 'number', value: 'x', min: 0, summary: 'With --accelerator: network of a host, Gbit/s each way; 400 unless given' },
	batch: { kind: 'integer', value: 'n', min: 1, summary: "Samples of one step over all devices; a config's own unless given" },
	set: { kind: 'list', value: 'key=value', summary: 'Change one key of a config, as train.batch_size=64; may be repeated' },
} as const satisfies OptionSpecs;

export const shapeOptions = {
	stages: { kind: 'integer', value: 'n', min: 1, summary: 'Fix the pipeline stages' },
	microBatches: { kind: 'integer', value: 'n', min: 1, summary: 'Fix the micro-batches of a pipeline' },
	schedule: { kind: 'text', value: 'name', summary: 'Fix the schedule, as 1f1b' },
	warmup: { kind: 'text', value: 'usual|deep', summary: 'Fix how many forwards a stage runs before its first backward' },
	placement: { kind: 'text', value: 'linear|folded', summary: 'Fix how stages lie on ranks' },
	layout: { kind: 'text', value: 'pipelines|copies', summary: 'Fix what stands side by side: stages of a pipeline or copies of a stage' },
	pipelines: { kind: 'integer', value: 'n', min: 1, summary: 'Fix the copies of the whole pipeline' },
	recompute: { kind: 'switch', summary: 'Keep only the inputs of stages, and run their forward again in the backward' },
	fill: { kind: 'switch', summary: 'Put frozen work into idle time; without, it runs before the pipeline' },
	effort: { kind: 'number', value: 'x', min: 0, summary: 'How hard the filling is improved; 1 unless given, 0 for the greedy alone' },
} as const satisfies OptionSpecs;

export const outputOptions = {
	out: {
		kind: 'text',
		value: 'folder|file',
		summary: 'Write plan, pictures and trace into a folder, or one of them by its ending: .json .svg .html .trace.json',
	},
} as const satisfies OptionSpecs;
