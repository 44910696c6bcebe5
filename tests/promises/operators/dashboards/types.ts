// What Grafana's own types say of a dashboard whose panels are all time series.
import type { Dashboard, Panel } from '@grafana/schema';
import type {
  FieldConfig,
  Options,
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// In a file a member of an enumeration is its text.
type Json<T> = T extends string
  ? `${T}`
  : T extends (infer Item)[]
    ? Json<Item>[]
    : T extends object
      ? { [Name in keyof T]: Json<T[Name]> }
      : T;

// The panel's own type leaves its options open.
type TimeSeries = Omit<Panel<Options, FieldConfig>, 'type' | 'options'> & {
  type: 'timeseries';
  options: Options;
};

export type Typed = Json<Omit<Dashboard, 'panels'> & { panels: TimeSeries[] }>;
