"""From folders of speech to a manifest: who trains, who validates, who is tested."""
