/** @file Reading and writing scheduler_config.json: each sampler lists its options once, and gets them checked, typed and defaulted. */
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';

/** A parsed scheduler_config.json. */
export type SchedulerConfig = Readonly<Record<string, unknown>>;

/** One option: the value it has when absent, and how to read a given one. `read` throws when the value is not allowed. */
export interface Option<T> {
	readonly fallback: T;
	read(value: unknown, place: string): T;
}

/** A sampler's options by name. */
export type OptionTable = Readonly<Record<string, Option<unknown>>>;

/** The values of a table of options. */
export type OptionValues<S extends OptionTable> = { readonly [K in keyof S]: S[K] extends Option<infer T> ? T : never };

/** true or false; null reads as false, as diffusers takes it. */
export function flag(fallback: boolean): Option<boolean> {
	return {
		fallback,
		read: (value, place) => (value === null ? false : typeof value === 'boolean' ? value : refuse(place, 'true or false', value)),
	};
}

/** A finite number, at least `least` if given. */
export function number(fallback: number, least = Number.NEGATIVE_INFINITY): Option<number> {
	const expected = least === Number.NEGATIVE_INFINITY ? 'a number' : `a number of at least ${least}`;
	return {
		fallback,
		read: (value, place) =>
			typeof value === 'number' && Number.isFinite(value) && value >= least ? value : refuse(place, expected, value),
	};
}

/** A whole number, at least `least`. */
export function integer(fallback: number, least: number): Option<number> {
	return {
		fallback,
		read: (value, place) =>
			typeof value === 'number' && Number.isSafeInteger(value) && value >= least
				? value
				: refuse(place, `a whole number of at least ${least}`, value),
	};
}

/** The option, or null, which is its default. */
export function nullable<T>(option: Option<T>): Option<T | null> {
	return { fallback: null, read: (value, place) => (value === null ? null : option.read(value, place)) };
}

/** A list of numbers. */
export function numbers(fallback: readonly number[]): Option<readonly number[]> {
	return {
		fallback,
		read: (value, place) =>
			Array.isArray(value) && value.every((x) => typeof x === 'number') ? (value as number[]) : refuse(place, 'a list of numbers', value),
	};
}

/** One of `values`. `aliases` are other schedulers' words that diffusers reads as one of them. */
export function choice<const V extends string>(
	fallback: NoInfer<V>,
	values: readonly V[],
	aliases: Readonly<Record<string, NoInfer<V>>> = {},
): Option<V> {
	return {
		fallback,
		read: (value, place) =>
			values.find((v) => v === value) ??
			(typeof value === 'string' && Object.hasOwn(aliases, value) ? aliases[value] : undefined) ??
			refuse(place, `one of ${values.join(', ')}`, value),
	};
}

/** An option we know and do not support: only its default is taken, given as such or as null. */
export function unsupported(fallback: null, what: string): Option<null> {
	return { fallback, read: (value, place) => (value === null ? null : refuse(place, `null, since ${what} is not supported`, value)) };
}

/**
 * Options of diffusers' other schedulers. Configs carry them along when a model changes its scheduler; diffusers loads them without using
 * them, so ignoring them gives the same results.
 */
const otherSchedulersOptions = new Set(
	`algorithm_type base_image_seq_len base_shift beta_end beta_schedule beta_start clip_sample clip_sample_range corrector_order
	disable_corrector dynamic_thresholding_ratio euler_at_final final_sigmas_type flow_shift interpolation_type invert_sigmas
	lambda_min_clipped lower_order_final max_image_seq_len max_shift noise_sampler_seed original_inference_steps predict_x0 prediction_type
	predictor_order rescale_betas_zero_snr rho s_noise sample_max_value set_alpha_to_one shift shift_terminal sigma_data sigma_max sigma_min
	sigma_schedule skip_prk_steps snr_shift_scale solver_order solver_p solver_type steps_offset stochastic_sampling thresholding
	time_shift_type timestep_scaling timestep_spacing timestep_type trained_betas use_beta_sigmas use_dynamic_shifting
	use_exponential_sigmas use_flow_sigmas use_karras_sigmas use_lu_lambdas variance_type`.split(/\s+/),
);

/**
 * The values of `table` in a scheduler_config.json. Keys that begin with `_` say where the file comes from and are skipped.
 * @throws {DiffusionPipeError} naming an option that nobody knows, or whose value is not allowed or not supported.
 */
export function readOptions<S extends OptionTable>(className: string, table: S, config: SchedulerConfig): OptionValues<S> {
	const values: Record<string, unknown> = Object.fromEntries(Object.entries(table).map(([name, option]) => [name, option.fallback]));
	for (const [name, value] of Object.entries(config)) {
		if (name.startsWith('_') || value === undefined) continue;
		const option = Object.hasOwn(table, name) ? table[name] : undefined;
		if (option !== undefined) values[name] = option.read(value, `${className} ${name}`);
		else if (!otherSchedulersOptions.has(name)) {
			const near = nearestName(name, Object.keys(table));
			throw new DiffusionPipeError('config', 'unknown scheduler option', {
				place: `${className} ${name}`,
				expected: `one of ${Object.keys(table).join(', ')}`,
				found: JSON.stringify(value),
				hint: near === undefined ? 'remove it if it does not change the results' : `did you mean ${near}?`,
			});
		}
	}
	return values as OptionValues<S>;
}

/**
 * A scheduler_config.json of read options. Options that are null are left out: null is their default, and diffusers writes that of
 * lambda_min_clipped in a way that JSON does not know.
 */
export function writeOptions(className: string, values: SchedulerConfig): SchedulerConfig {
	return { _class_name: className, ...Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null)) };
}

/** The text of a scheduler_config.json as an object. Python writes lambda_min_clipped's default as a bare `-Infinity`, which reads as null. */
export function parseSchedulerConfig(text: string, place: string): SchedulerConfig {
	let parsed: unknown;
	try {
		parsed = JSON.parse(text.replaceAll(/("lambda_min_clipped"\s*:\s*)-Infinity\b/g, '$1null'));
	} catch (cause) {
		throw new DiffusionPipeError('config', 'not valid JSON', { place, expected: 'a scheduler_config.json', found: String(cause), cause });
	}
	if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
		return refuse(place, 'an object of scheduler options', parsed);
	return parsed as SchedulerConfig;
}

/** Throws the error of a value that is not allowed. */
export function refuse(place: string, expected: string, value: unknown): never {
	throw new DiffusionPipeError('config', 'bad value', { place, expected, found: JSON.stringify(value) ?? String(value) });
}
