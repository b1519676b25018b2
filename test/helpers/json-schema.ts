/** @file Checks values against the part of JSON Schema (draft 2020-12) that the published schemas use. */

/** A schema, or part of one. */
export interface JsonSchema {
	readonly [keyword: string]: unknown;
}

const annotations = ['$schema', '$id', '$defs', 'title', 'description'];
type Check = (value: unknown, wanted: never, schema: JsonSchema, root: JsonSchema) => boolean;
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
	typeof value === 'object' && value !== null && !Array.isArray(value);
const numeric = (holds: (value: number, wanted: number) => boolean) => (value: unknown, wanted: number) =>
	typeof value !== 'number' || holds(value, wanted);

function isOfType(value: unknown, type: string): boolean {
	if (type === 'integer') return Number.isInteger(value);
	if (type === 'array') return Array.isArray(value);
	if (type === 'object') return isObject(value);
	if (type === 'null') return value === null;

	return typeof value === type;
}

const checks: Readonly<Record<string, Check>> = {
	$ref: (value, wanted: string, _, root) =>
		accepts((root.$defs as Record<string, JsonSchema>)[wanted.replace('#/$defs/', '')]!, value, root),
	type: (value, wanted: string | readonly string[]) => [wanted].flat().some((type) => isOfType(value, type)),
	const: (value, wanted: unknown) => value === wanted,
	enum: (value, wanted: readonly unknown[]) => wanted.includes(value),
	minimum: numeric((value, wanted) => value >= wanted),
	exclusiveMinimum: numeric((value, wanted) => value > wanted),
	maximum: numeric((value, wanted) => value <= wanted),
	minLength: (value, wanted: number) => typeof value !== 'string' || value.length >= wanted,
	minItems: (value, wanted: number) => !Array.isArray(value) || value.length >= wanted,
	prefixItems: (value, wanted: readonly JsonSchema[], _, root) =>
		!Array.isArray(value) || value.every((item, i) => !wanted[i] || accepts(wanted[i], item, root)),
	items: (value, wanted: JsonSchema | false, { prefixItems = [] }, root) =>
		!Array.isArray(value) ||
		value.slice((prefixItems as readonly unknown[]).length).every((item) => wanted !== false && accepts(wanted, item, root)),
	required: (value, wanted: readonly string[]) => !isObject(value) || wanted.every((key) => Object.hasOwn(value, key)),
	properties: (value, wanted: Readonly<Record<string, JsonSchema>>, _, root) =>
		!isObject(value) || Object.entries(wanted).every(([key, inner]) => !Object.hasOwn(value, key) || accepts(inner, value[key], root)),
	additionalProperties: (value, _wanted: false, { properties = {} }) =>
		!isObject(value) || Object.keys(value).every((key) => Object.hasOwn(properties as object, key)),
};

/** Whether `schema` accepts `value`. Throws for a keyword that is not known here, so that none is passed over. */
export function accepts(schema: JsonSchema, value: unknown, root: JsonSchema = schema): boolean {
	return Object.entries(schema).every(([keyword, wanted]) => {
		if (annotations.includes(keyword)) return true;
		const check = checks[keyword];
		if (!check) throw new Error(`keyword ${keyword} is not known`);
		return check(value, wanted as never, schema, root);
	});
}
